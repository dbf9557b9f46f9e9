// Continue, the editor extension, by the adapters through which it calls models: Mistral's own API, and Vertex AI.
import { constructLlmApi } from "@continuedev/openai-adapters";
import { all, given, tell } from "./told.js";

const { signal } = new AbortController();
const hole = { model: "codestral-latest", prompt: given.prefix, suffix: given.suffix, max_tokens: 64, stream: true };
const chat = { model: "codestral-2", messages: [{ role: "user", content: given.question }], stream: false };

await tell((url, answering) => {
  const mistral = constructLlmApi({ provider: "mistral", apiKey: "of-the-caller", apiBase: `${url}/v1/` });
  const vertex = constructLlmApi({
    provider: "vertexai",
    apiBase: `${url}/v1/projects/project/locations/us-central1/`,
    env: { projectId: "project", region: "us-central1" },
  });
  // There are no Google credentials here, and nowhere to get an access token.
  vertex.clientPromise = Promise.resolve({ getAccessToken: async () => ({ token: "of-the-caller" }) });
  const asks = {
    fimStream: () => all(mistral.fimStream(hole, signal)),
    vertexFimStream: () => all(vertex.fimStream({ ...hole, model: "codestral-2" }, signal)),
    vertexChat: () => vertex.chatCompletionNonStream(chat, signal),
  };
  // It tries an error twice more, after seconds, and has no option against that.
  if (answering !== "nobody") asks.chat = () => mistral.chatCompletionNonStream(chat, signal);
  return asks;
});
