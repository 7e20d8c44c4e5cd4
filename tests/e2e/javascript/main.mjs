// The main flows with the unmodified `openai` package: exits with 1 and a sentence at the first that fails.
import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const [chatModel] = process.argv.slice(2);
const client = new OpenAI({ maxRetries: 0 }); // OPENAI_BASE_URL and OPENAI_API_KEY, as make run writes them

const models = [];
for await (const model of await client.models.list()) models.push(model.id);
assert(models.includes(chatModel), "the chat model is listed");

const chat = await client.chat.completions.create({
  model: chatModel,
  messages: [{ role: "user", content: "Say hello." }],
  max_tokens: 8,
  stream: true,
});
let text = "";
for await (const chunk of chat) text += chunk.choices[0]?.delta?.content ?? "";
assert(text.length > 0, "a chat completion streams");

const conversation = await client.conversations.create({});
for (const input of ["I am Maria.", "Who am I?"]) {
  await client.responses.create({ model: chatModel, input, conversation: conversation.id, max_output_tokens: 8 });
}
const roles = [];
for await (const item of await client.conversations.items.list(conversation.id, { order: "asc" })) roles.push(item.role);
assert.deepEqual(roles, ["user", "assistant", "user", "assistant"]);

const events = [];
const stream = await client.responses.create({ model: chatModel, input: "Count.", stream: true, max_output_tokens: 12 });
for await (const event of stream) events.push(event);
assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, index) => index));
const resumed = [];
const rest = await client.responses.retrieve(events[0].response.id, { stream: true, starting_after: 3 });
for await (const event of rest) resumed.push(event.sequence_number);
assert.deepEqual(resumed, events.slice(4).map((event) => event.sequence_number));

const store = await client.vectorStores.create({ name: "javascript" });
const file = await toFile(Buffer.from("# Lunch\n\nLunch at Zorblatt Industries is served at noon."), "lunch.md");
const attached = await client.vectorStores.files.uploadAndPoll(store.id, file, { pollIntervalMs: 200 });
assert.equal(attached.status, "completed");
const answer = await client.responses.create({
  model: chatModel,
  input: "When is lunch served?",
  tools: [{ type: "file_search", vector_store_ids: [store.id] }],
  include: ["file_search_call.results"],
  max_output_tokens: 24,
});
assert.equal(answer.output[0].type, "file_search_call");
assert.equal(answer.output[0].results[0].filename, "lunch.md");
await client.vectorStores.delete(store.id);

await assert.rejects(client.responses.retrieve("resp_unknown"), OpenAI.NotFoundError);
console.log("ok");
