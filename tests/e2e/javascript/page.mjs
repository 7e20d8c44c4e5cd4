// What a page does with the SDK's browser build, and what its browser lets it do. Every step's outcome goes to /done.
import OpenAI from 'openai';

const { baseURL, apiKey, model } = await (await fetch('/settings.json')).json();
const client = new OpenAI({ baseURL, apiKey, dangerouslyAllowBrowser: true, maxRetries: 0 });
const input = 'Say hello.';
const max_output_tokens = 8;

/** A turn over a socket, which the SDK has no class for in browsers; gives the subprotocol that was answered. */
function turn(protocols) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${baseURL.replace('http', 'ws')}/responses`, protocols);
    socket.onopen = () => socket.send(JSON.stringify({ type: 'response.create', model, input, max_output_tokens }));
    socket.onclose = () => reject(new Error('closed'));
    socket.onmessage = ({ data }) => {
      const { type, response } = JSON.parse(data);
      if (type === 'response.completed' || type === 'response.incomplete') {
        resolve(`${socket.protocol} ${response.object}`);
        socket.close();
      }
    };
  });
}

async function ticket() {
  return (await client.post(new URL('/cloister/v1/socket-tickets', baseURL).href)).subprotocol;
}

async function streamed() {
  const text = [];
  for await (const event of await client.responses.create({ model, input, max_output_tokens, stream: true })) {
    if (event.type === 'response.output_text.delta') text.push(event.delta);
  }
  return text.length > 0;
}

async function file() {
  const made = await client.files.create({ file: new File(['A page.'], 'page.txt'), purpose: 'assistants' });
  const read = await (await client.files.content(made.id)).text();
  await client.files.delete(made.id);
  return read;
}

let used;
const steps = {
  models: async () => (await client.models.list()).data.some(({ id }) => id === model),
  response: async () => (await client.responses.create({ model, input, max_output_tokens })).object,
  'request id': async () => (await client.models.list().withResponse()).request_id.slice(0, 4),
  chat: async () => (await client.chat.completions.create({ model, messages: [{ role: 'user', content: input }] })).object,
  streamed,
  file,
  conversation: async () => (await client.conversations.delete((await client.conversations.create()).id)).deleted,
  'wrong key': async () => await client.withOptions({ apiKey: 'wrong' }).models.list(),
  'unknown route': async () => await client.get('/unknown'),
  'socket by key': async () => await turn(['realtime', `openai-insecure-api-key.${apiKey}`]),
  'socket by ticket': async () => await turn(['realtime', (used = await ticket())]),
  'socket by used ticket': async () => await turn(['realtime', used]),
  'with cookies': async () => await client.withOptions({ fetchOptions: { credentials: 'include' } }).models.list(),
};

const outcomes = {};
for (const [name, step] of Object.entries(steps)) {
  try {
    outcomes[name] = await step();
  } catch (error) {
    outcomes[name] = error instanceof OpenAI.APIError && error.status ? `${error.status} ${error.code}` : 'nothing';
  }
}
await fetch('/done', { method: 'POST', body: JSON.stringify(outcomes) });
