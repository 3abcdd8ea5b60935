import { BaseCommand, embeddedFile, forgetLogin, readCluster } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';

export class Logout extends BaseCommand {
  static override paths = [['logout']];
  static override usage = Command.Usage({
    category: 'Account',
    description: 'Forget the keys that login kept',
    examples: [['On a machine that others use', '$0 logout']],
  });

  override async perform(): Promise<undefined> {
    const forgotten = await forgetLogin(this.context.env);
    const embedded = await readCluster(embeddedFile(this.context.env)).catch(() => undefined);
    if (this.json) this.printJson({ loggedOut: forgotten });
    this.say(forgotten ? 'Logged out.' : 'Nobody was logged in.');
    if (embedded) this.say(`The cluster of this machine (${embedded.endpoint}) stays reachable with its own keys.`);
  }
}
