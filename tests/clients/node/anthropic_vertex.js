import { AnthropicVertex } from "@anthropic-ai/vertex-sdk";
import { OAuth2Client } from "google-auth-library";
import { given, tell } from "./told.js";

const authClient = new OAuth2Client();
authClient.setCredentials({ access_token: "of-the-caller", expiry_date: Date.now() + 3600_000 });
const asked = {
  model: "claude-haiku-4-5@20251001",
  max_tokens: 64,
  messages: [{ role: "user", content: given.question }],
};

await tell((url) => {
  const client = new AnthropicVertex({
    projectId: "project",
    region: "us-central1",
    authClient,
    baseURL: `${url}/v1`,
    maxRetries: 0,
  });
  return {
    message: () => client.messages.create(asked),
    messageStream: () => client.messages.stream(asked).finalMessage(),
  };
});
