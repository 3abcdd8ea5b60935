/**
 * A session from another TypeScript application: run code, move files, read the result.
 *
 *   npm install @backend.ai/client
 *   BACKEND_ENDPOINT=http://127.0.0.1:8091 BACKEND_ACCESS_KEY=… BACKEND_SECRET_KEY=… npx tsx sdk-session.ts
 */
import { AppError, createClient } from '@backend.ai/client';

function fromEnvironment(name: string): string {
  const value = process.env[name];
  if (!value)
    throw new Error(`Set ${name}; of an embedded cluster it stands in ~/.local/share/backend.ai/credentials.json.`);
  return value;
}

async function main(): Promise<void> {
  const client = createClient({
    endpoint: fromEnvironment('BACKEND_ENDPOINT'),
    accessKey: fromEnvironment('BACKEND_ACCESS_KEY'),
    secretKey: fromEnvironment('BACKEND_SECRET_KEY'),
  });

  const { email } = await client.auth.whoami();
  console.log(`I am ${email}.`);

  // Destroyed at the end of the block, also when something in it throws.
  await using session = await client.sessions.create({
    image: process.env.BACKEND_IMAGE ?? 'python',
    resources: { cpu: 1, mem: '256m' },
  });
  await session.waitUntilRunning({
    timeoutMs: 60_000,
    onChange: (view) => console.log(`${view.status}: ${view.reason.message}`),
  });
  console.log(`Session ${session.name} runs after ${session.view.timings.runningMs} ms.`);

  // Variables stay from one snippet to the next.
  await session.upload('numbers.txt', '1\n2\n3\n4\n');
  await session.run('numbers = [int(line) for line in open("numbers.txt")]').result;
  const run = session.run(`print("sum", sum(numbers))
with open("sum.txt", "w") as file: file.write(str(sum(numbers)))`);
  for await (const [kind, data] of run) {
    if (kind === 'stdout') process.stdout.write(String(data));
  }
  const { exitCode, notices, elapsedMs } = await run.result;
  console.log(`Exit code ${exitCode} after ${elapsedMs} ms; ${notices.length} notices.`);

  const sum = await session.download('sum.txt');
  console.log(`Downloaded: ${sum.toString('utf8')}`);

  const listing = await session.exec('ls -l').result;
  console.log(listing.stdout);
}

main().catch((error: unknown) => {
  if (!(error instanceof AppError)) throw error;
  console.error(`${error.message} [${error.code}]\n  ${error.hint}\n  request id: ${error.requestId}`);
  process.exitCode = 1;
});
