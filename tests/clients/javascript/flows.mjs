// What a client's flows share: they are named, run side by side, and told of one by one.

export const MODEL = process.env.CHAT_MODEL;
export const EMBEDDING_MODEL = process.env.EMBEDDING_MODEL;
export const BASE_URL = process.env.OPENAI_BASE_URL;
export const API_KEY = process.env.OPENAI_API_KEY;

/** Runs an object of async functions, or those of them that the arguments name; the exit status is how many failed. */
export async function run(flows) {
  let failed = 0;
  const named = process.argv.slice(2);
  const wanted = Object.entries(flows).filter(([name]) => named.length === 0 || named.includes(name));
  const runOne = async ([name, flow]) => {
    const began = performance.now();
    let error = null;
    try {
      await flow();
    } catch (thrown) {
      error = String(thrown?.stack ?? thrown);
      failed += 1;
    }
    const seconds = Math.round((performance.now() - began) / 100) / 10;
    console.log(JSON.stringify({ flow: name, seconds, error }));
  };
  await Promise.all(wanted.map(runOne));
  process.exit(failed);
}
