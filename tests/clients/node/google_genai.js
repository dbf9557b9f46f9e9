import { GoogleGenAI } from "@google/genai";
import { OAuth2Client } from "google-auth-library";
import { all, given, tell } from "./told.js";

const authClient = new OAuth2Client();
authClient.setCredentials({ access_token: "of-the-caller", expiry_date: Date.now() + 3600_000 });
const asked = {
  model: "gemini-2.5-flash",
  contents: given.question,
  config: { maxOutputTokens: 64, stopSequences: ["END"] },
};

await tell((url) => {
  const client = new GoogleGenAI({
    vertexai: true,
    project: "project",
    location: "us-central1",
    googleAuthOptions: { authClient },
    httpOptions: { baseUrl: url },
  });
  return {
    content: async () => read(await client.models.generateContent(asked)),
    contentStream: async () => (await all(client.models.generateContentStream(asked))).map(read),
  };
});

// `text` is computed: it is not among the fields of the object.
function read(answer) {
  return { ...answer, text: answer.text };
}
