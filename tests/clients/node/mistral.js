import { Mistral } from "@mistralai/mistralai";
import { all, given, tell } from "./told.js";

const hole = { model: "codestral-latest", prompt: given.prefix, suffix: given.suffix, maxTokens: 64 };
const chat = { model: "codestral-latest", messages: [{ role: "user", content: given.question }] };

await tell((url) => {
  const client = new Mistral({ apiKey: "of-the-caller", serverURL: url });
  return {
    fim: () => client.fim.complete(hole),
    fimStream: () => all(client.fim.stream(hole)),
    chat: () => client.chat.complete(chat),
    chatStream: () => all(client.chat.stream(chat)),
  };
});
