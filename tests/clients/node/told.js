// What a client made of the proxy's answers, told to the test as JSON on stdout.

/** What the test hands over: `url`, `prefix`, `suffix`, `question`. */
export const given = JSON.parse(process.argv[2]);

/** All that a stream yields. */
export async function all(stream) {
  const items = [];
  for await (const item of await stream) items.push(item);
  return items;
}

/** Ask one after the other and print, by name, `{answer}`, or `{error}` with its class, its bases and its status. */
export async function tell(asked) {
  const told = {};
  for (const [name, ask] of Object.entries(asked)) {
    try {
      told[name] = { answer: await ask() };
    } catch (error) {
      told[name] = { error: { kinds: kinds(error), status: error.status ?? error.statusCode, message: error.message } };
    }
  }
  console.log(JSON.stringify(told));
}

function kinds(error) {
  const names = [];
  for (let kind = error?.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) names.push(kind.name);
  return names;
}
