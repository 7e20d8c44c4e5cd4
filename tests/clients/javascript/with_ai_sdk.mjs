// Vercel's AI SDK: its OpenAI provider (the Responses API by default, and chat), and the one for servers like OpenAI's.
import assert from "node:assert/strict";

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

import { API_KEY, BASE_URL, EMBEDDING_MODEL, MODEL, run } from "./flows.mjs";

const openai = createOpenAI({ baseURL: BASE_URL, apiKey: API_KEY });
const compatible = createOpenAICompatible({
  name: "cloister",
  baseURL: BASE_URL,
  apiKey: API_KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const models = { responses: openai(MODEL), chat: openai.chat(MODEL), compatible: compatible(MODEL) };
const common = { maxOutputTokens: 6, maxRetries: 0 };
const bound = { ...common, maxOutputTokens: 40 }; // for answers that are no good when they are cut off
const weather = tool({
  description: "What the weather is like in a city.",
  inputSchema: z.object({ city: z.enum(["Oslo", "Rome"]) }),
  execute: async ({ city }) => `It rains in ${city}.`,
});

async function everywhere(flow) {
  const runOne = async ([name, model]) => {
    try {
      await flow(model);
    } catch (error) {
      throw new Error(`${name}: ${error.message} ${error.responseBody ?? ""}`, { cause: error });
    }
  };
  await Promise.all(Object.entries(models).map(runOne));
}

await run({
  answers: () =>
    everywhere(async (model) => {
      const { text, usage } = await generateText({ ...common, model, system: "Be brief.", prompt: "Say hello." });
      assert.ok(text);
      assert.ok(usage.outputTokens > 0);
    }),

  streams: () =>
    everywhere(async (model) => {
      const result = streamText({ ...common, model, prompt: "Say hello.", onError: ({ error }) => assert.fail(error) });
      let text = "";
      for await (const part of result.textStream) text += part;
      assert.ok(text);
      assert.ok((await result.usage).outputTokens > 0);
    }),

  calls_a_tool_and_goes_on: () =>
    everywhere(async (model) => {
      const { steps } = await generateText({
        ...bound,
        model,
        prompt: "What is the weather in Oslo?",
        tools: { weather },
        stopWhen: stepCountIs(2),
        prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
      });
      assert.equal(steps[0].toolResults[0].toolName, "weather");
      assert.match(steps[0].toolResults[0].output, /^It rains in /);
      assert.equal(steps.length, 2);
    }),

  streams_a_call_and_what_follows: () =>
    everywhere(async (model) => {
      const result = streamText({
        ...bound,
        model,
        prompt: "What is the weather in Rome?",
        tools: { weather },
        stopWhen: stepCountIs(2),
        prepareStep: ({ stepNumber }) => ({
          toolChoice: stepNumber === 0 ? { type: "tool", toolName: "weather" } : "none",
        }),
        onError: ({ error }) => assert.fail(error),
      });
      const kinds = new Set();
      for await (const part of result.fullStream) kinds.add(part.type);
      for (const kind of ["tool-input-delta", "tool-call", "tool-result"]) assert.ok(kinds.has(kind), kind);
    }),

  answers_in_a_structure: () =>
    everywhere(async (model) => {
      const { object } = await generateObject({
        ...bound,
        model,
        schema: z.object({ name: z.enum(["Ada", "Alan"]), age: z.number().int().min(0).max(150) }),
        prompt: "Ada is 36 years old.",
      });
      assert.equal(typeof object.age, "number");
    }),

  goes_on_with_what_was_said: () =>
    everywhere(async (model) => {
      const first = await generateText({ ...common, model, prompt: "Say hello." });
      const messages = [
        { role: "user", content: "Say hello." },
        ...first.response.messages,
        { role: "user", content: "And goodbye." },
      ];
      assert.ok((await generateText({ ...common, model, messages })).text);
    }),

  embeds: async () => {
    for (const provider of [openai, compatible]) {
      const model = provider.textEmbeddingModel(EMBEDDING_MODEL);
      const { embeddings } = await embedMany({ model, values: ["a cat", "the stock exchange"], maxRetries: 0 });
      assert.deepEqual(embeddings.map((vector) => vector.length), [384, 384]);
    }
  },
});
