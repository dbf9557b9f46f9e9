// What a client made of the proxy's answers, told to the test as JSON on stdout.

/** What the test hands over: `urls`, of a proxy by who answers there, and `prefix`, `suffix`, `question`. */
export const given = JSON.parse(process.argv[2]);

/** All that a stream yields. */
export async function all(stream) {
  const items = [];
  for await (const item of await stream) items.push(item);
  return items;
}

/**
 * Ask every proxy for what `asks` names for it, one after the other, and print it by proxy and name: `{answer}`, or
 * `{error}` with the names of its class and bases, its status and its message.
 */
export async function tell(asks) {
  const told = {};
  for (const [answering, url] of Object.entries(given.urls)) {
    told[answering] = {};
    for (const [name, ask] of Object.entries(asks(url, answering))) told[answering][name] = await outcome(ask);
  }
  console.log(JSON.stringify(told));
}

async function outcome(ask) {
  try {
    return { answer: await ask() };
  } catch (error) {
    return { error: { kinds: kinds(error), status: error.status ?? error.statusCode, message: error.message } };
  }
}

function kinds(error) {
  const names = [];
  for (let kind = error?.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) names.push(kind.name);
  return names;
}
