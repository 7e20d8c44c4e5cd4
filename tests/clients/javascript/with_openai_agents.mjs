// OpenAI's Agents SDK for JavaScript, with its defaults: the Responses API.
import assert from "node:assert/strict";

import { Agent, assistant, run as ask, setTracingDisabled, tool, user } from "@openai/agents";
import { z } from "zod";

import { MODEL, run } from "./flows.mjs";

setTracingDisabled(true); // it would be sent to OpenAI

// What a model can only go on with in one way. The SDK throws where an answer is cut off at a number of tokens.
const turn = [user("Say hello."), assistant("Hello.")];
const asked = [...turn, ...turn, ...turn, user("Say hello.")];
const City = z.object({ name: z.enum(["Oslo", "Rome"]) });

const weather = tool({
  name: "weather",
  description: "What the weather is like in a city.",
  parameters: z.object({ city: z.enum(["Oslo", "Rome"]) }),
  execute: async ({ city }) => `It rains in ${city}.`,
});
const agent = ({ settings = {}, ...options } = {}) =>
  new Agent({
    name: "Helper",
    instructions: "Be brief.",
    model: MODEL,
    modelSettings: { maxTokens: 96, parallelToolCalls: false, ...settings },
    ...options,
  });

await run({
  answers: async () => {
    const result = await ask(agent(), asked);
    assert.ok(result.finalOutput);
  },

  streams: async () => {
    const result = await ask(agent(), asked, { stream: true });
    let text = "";
    for await (const part of result.toTextStream()) text += part;
    assert.ok(text);
  },

  calls_a_tool_and_goes_on: async () => {
    const made = agent({ tools: [weather], outputType: City, settings: { toolChoice: "required" } });
    const result = await ask(made, "What is the weather in Oslo?", { maxTurns: 4 });
    assert.deepEqual(result.newItems.slice(0, 2).map((item) => item.type), ["tool_call_item", "tool_call_output_item"]);
    assert.equal(typeof result.finalOutput.name, "string");
  },

  answers_in_a_structure: async () => {
    const result = await ask(agent({ outputType: City }), "Name a city.");
    assert.equal(typeof result.finalOutput.name, "string");
  },

  goes_on_with_its_own_output: async () => {
    const first = await ask(agent(), asked);
    const second = await ask(agent(), [...first.history, user("Say hello.")]);
    assert.ok(second.finalOutput);
  },

  goes_on_by_the_previous_response: async () => {
    const first = await ask(agent(), asked);
    assert.ok((await ask(agent(), "Say hello.", { previousResponseId: first.lastResponseId })).finalOutput);
  },
});
