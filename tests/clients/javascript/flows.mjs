// What a client's flows share: they are named, run one after another, and told of one by one.

export const MODEL = process.env.CHAT_MODEL;
export const EMBEDDING_MODEL = process.env.EMBEDDING_MODEL;
export const BASE_URL = process.env.OPENAI_BASE_URL;
export const API_KEY = process.env.OPENAI_API_KEY;

/** Runs an object of async functions, or those of them that the arguments name; the exit status is how many failed. */
export async function run(flows) {
  let failed = 0;
  for (const [name, flow] of Object.entries(flows)) {
    if (process.argv.length > 2 && !process.argv.slice(2).includes(name)) continue;
    let error = null;
    try {
      await flow();
    } catch (thrown) {
      error = String(thrown?.stack ?? thrown);
      failed += 1;
    }
    console.log(JSON.stringify({ flow: name, error }));
  }
  process.exit(failed);
}
