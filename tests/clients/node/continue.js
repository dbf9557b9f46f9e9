// Continue, the editor extension, by the adapters that it calls models with: Mistral's API, and Vertex AI.
import { constructLlmApi } from "@continuedev/openai-adapters";
import { all, given, tell } from "./told.js";

const mistral = constructLlmApi({ provider: "mistral", apiKey: "of-the-caller", apiBase: `${given.url}/v1/` });
const vertex = constructLlmApi({
  provider: "vertexai",
  apiBase: `${given.url}/v1/projects/project/locations/us-central1/`,
  env: { projectId: "project", region: "us-central1" },
});
// There are no Google credentials here, and nowhere to get an access token.
vertex.clientPromise = Promise.resolve({ getAccessToken: async () => ({ token: "of-the-caller" }) });

const { signal } = new AbortController();
const hole = { model: "codestral-latest", prompt: given.prefix, suffix: given.suffix, max_tokens: 64, stream: true };
const chat = { model: "codestral-latest", messages: [{ role: "user", content: given.question }] };

await tell({
  fimStream: () => all(mistral.fimStream(hole, signal)),
  chat: () => mistral.chatCompletionNonStream({ ...chat, stream: false }, signal),
  chatStream: () => all(mistral.chatCompletionStream({ ...chat, stream: true }, signal)),
  vertexFimStream: () => all(vertex.fimStream({ ...hole, model: "codestral-2" }, signal)),
  vertexChat: () => vertex.chatCompletionNonStream({ ...chat, model: "codestral-2", stream: false }, signal),
});
