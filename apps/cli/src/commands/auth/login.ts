import { ApiCommand, embeddedFile, type KnownCluster, readCluster, saveLogin } from '@backend.ai/cli-kit';
import { createClient, nodeFetch } from '@backend.ai/client';
import { AppError } from '@backend.ai/core';
import { Command } from 'clipanion';
import { ask, askSecret } from '../../prompt.ts';

export class Login extends ApiCommand {
  static override paths = [['login']];
  static override usage = Command.Usage({
    category: 'Account',
    description: 'Check keys and keep them for later commands',
    details:
      'What is not given by options or environment is taken from the embedded cluster of this machine, or asked for at a terminal.',
    examples: [
      ['Log in to the cluster of this machine', '$0 login'],
      ['Log in to another one', '$0 login --endpoint https://api.example.com'],
    ],
  });

  override async perform(): Promise<undefined> {
    const cluster = await this.#cluster();
    const client = createClient({ ...cluster, requestId: this.context.requestId, fetch: nodeFetch });
    const user = await client.auth.whoami();
    const file = await saveLogin(this.context.env, { ...cluster, endpoint: client.endpoint });
    if (this.json) this.printJson({ endpoint: client.endpoint, user, file });
    this.say(`Logged in to ${client.endpoint} as ${user.email} (${user.role}).`);
    this.say(`Kept in ${file}.`);
  }

  async #cluster(): Promise<KnownCluster> {
    const { env } = this.context;
    const given = {
      endpoint: this.endpoint ?? env.BACKEND_ENDPOINT,
      accessKey: this.accessKey ?? env.BACKEND_ACCESS_KEY,
      secretKey: this.secretKey ?? env.BACKEND_SECRET_KEY,
    };
    // Keys of the embedded cluster are of no use elsewhere.
    const embedded = await readCluster(embeddedFile(env));
    const own = given.endpoint === undefined || given.endpoint === embedded?.endpoint ? embedded : undefined;
    const endpoint = given.endpoint ?? own?.endpoint ?? (await ask(this.context, 'Endpoint (URL): ', '--endpoint'));
    const accessKey = given.accessKey ?? own?.accessKey ?? (await ask(this.context, 'Access key: ', '--access-key'));
    const ownSecret = accessKey === own?.accessKey ? own.secretKey : undefined;
    const secretKey = given.secretKey ?? ownSecret ?? (await askSecret(this.context, 'Secret key: ', '--secret-key'));
    if (!endpoint || !accessKey || !secretKey) throw new AppError('invalid-input', 'A login needs all three answers.');
    return { endpoint, accessKey, secretKey };
  }
}
