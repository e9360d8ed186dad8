// Reads our stream with the AI SDK's own transport and message reader; prints the message as it stood at the end.
import { DefaultChatTransport, readUIMessageStream } from 'ai';

const [api, token, chatId, text, how] = process.argv.slice(2);
const transport = new DefaultChatTransport({ api, headers: { Authorization: `token ${token}` } });
const messages = [{ id: 'question', role: 'user', parts: [{ type: 'text', text }] }];
const stream =
  how === 'resume'
    ? await transport.reconnectToStream({ chatId })
    : await transport.sendMessages({ chatId, messages, trigger: 'submit-message', messageId: undefined });
if (stream === null) {
  console.log(JSON.stringify(null));
} else {
  let last = null;
  let texts = 0;
  const errors = [];
  for await (const message of readUIMessageStream({ stream, onError: error => errors.push(String(error)) })) {
    last = message;
    texts += 1;
  }
  console.log(JSON.stringify({ message: last, updates: texts, errors }));
}
