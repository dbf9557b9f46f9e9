import { MistralGCP } from "@mistralai/mistralai-gcp";
import { all, given, tell } from "./told.js";

const client = new MistralGCP({ projectId: "project", region: "us-central1", apiKey: "of-the-caller" });
const hole = { model: "codestral-2", prompt: given.prefix, suffix: given.suffix, maxTokens: 64 };
const chat = { model: "codestral-2", messages: [{ role: "user", content: given.question }] };

await tell((url) => {
  // The constructor takes no address of a server, a call does.
  const place = { serverURL: url };
  return {
    fim: () => client.fim.complete(hole, place),
    fimStream: () => all(client.fim.stream(hole, place)),
    chat: () => client.chat.complete(chat, place),
    chatStream: () => all(client.chat.stream(chat, place)),
  };
});
