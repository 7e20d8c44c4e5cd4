// LangChain and LangGraph for JavaScript, with their defaults.
import assert from "node:assert/strict";

import { HumanMessage, SystemMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { MemorySaver } from "@langchain/langgraph";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { createAgent, toolStrategy } from "langchain";
import { z } from "zod";

import { EMBEDDING_MODEL, MODEL, run } from "./flows.mjs";

const chat = (options = {}) => new ChatOpenAI({ model: MODEL, maxTokens: 6, maxRetries: 0, ...options });
const bound = (options = {}) => chat({ maxTokens: 96, ...options }); // for answers that are no good when they are cut off
const weather = tool(async ({ city }) => `It rains in ${city}.`, {
  name: "weather",
  description: "What the weather is like in a city.",
  schema: z.object({ city: z.enum(["Oslo", "Rome"]) }),
});
const Person = z.object({ name: z.enum(["Ada", "Alan"]), age: z.number().int().min(0).max(150) });

await run({
  answers: async () => {
    const answer = await chat().invoke([new SystemMessage("Be brief."), new HumanMessage("Say hello.")]);
    assert.ok(answer.text);
    assert.ok(answer.usage_metadata.output_tokens > 0);
  },

  streams: async () => {
    let text = "";
    for await (const chunk of await chat().stream("Say hello.")) text += chunk.text;
    assert.ok(text);
  },

  calls_a_tool_and_goes_on: async () => {
    for (const useResponsesApi of [false, true]) {
      const model = bound({ useResponsesApi });
      const asked = [new HumanMessage("What is the weather in Oslo?")];
      const called = await model.bindTools([weather], { tool_choice: "weather" }).invoke(asked);
      assert.equal(called.tool_calls[0].name, "weather");
      const said = await weather.invoke(called.tool_calls[0]);
      const free = chat({ useResponsesApi }).bindTools([weather], { tool_choice: "none" });
      assert.ok(await free.invoke([...asked, called, said]));
    }
  },

  answers_in_a_structure: async () => {
    for (const method of ["jsonSchema", "functionCalling"]) {
      const person = await bound().withStructuredOutput(Person, { method }).invoke("Ada is 36 years old.");
      assert.equal(typeof person.age, "number", method);
    }
  },

  answers_by_responses: async () => {
    const model = chat({ useResponsesApi: true });
    const first = await model.invoke("Say hello.");
    assert.ok(first.text);
    const second = await model.invoke([new HumanMessage("Say hello."), first, new HumanMessage("Again.")]);
    assert.ok(second.text);
    let text = "";
    for await (const chunk of await model.stream("Say hello.")) text += chunk.text;
    assert.ok(text);
  },

  an_agent_remembers: async () => {
    const agent = createAgent({ model: chat(), tools: [weather], checkpointer: new MemorySaver() });
    const thread = { configurable: { thread_id: "one" } };
    await agent.invoke({ messages: [new HumanMessage("Say hello.")] }, thread);
    const said = await agent.invoke({ messages: [new HumanMessage("And goodbye.")] }, thread);
    assert.ok(said.messages.length >= 4);
  },

  an_agent_answers_in_a_structure: async () => {
    const agent = createAgent({ model: bound(), tools: [], responseFormat: toolStrategy(Person) });
    const said = await agent.invoke({ messages: [new HumanMessage("Ada is 36 years old.")] });
    assert.equal(typeof said.structuredResponse.age, "number");
  },

  embeds: async () => {
    const embeddings = new OpenAIEmbeddings({ model: EMBEDDING_MODEL, maxRetries: 0 });
    const [one, other] = await embeddings.embedDocuments(["a cat", "the stock exchange"]);
    assert.deepEqual([one.length, other.length], [384, 384]);
  },
});
