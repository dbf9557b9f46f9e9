import OpenAI from "openai";
import { all, given, tell } from "./told.js";

const asked = {
  model: "google/gemini-2.5-flash",
  messages: [{ role: "user", content: [{ type: "text", text: given.question }] }],
};
const streamed = { ...asked, stream: true, stream_options: { include_usage: true } };

await tell((url) => {
  const client = new OpenAI({
    baseURL: `${url}/v1/projects/project/locations/us-central1/endpoints/openapi`,
    apiKey: "of-the-caller",
    maxRetries: 0,
  });
  return {
    chat: () => client.chat.completions.create(asked),
    chatStream: () => all(client.chat.completions.create(streamed)),
  };
});
