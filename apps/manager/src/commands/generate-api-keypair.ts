import { BaseCommand } from '@backend.ai/cli-kit';
import { Command } from 'clipanion';
import { newAccessKey, newSecretKey } from '../services/installation/installation-service.ts';

export class GenerateApiKeypairCommand extends BaseCommand {
  static override paths = [['mgr', 'generate-api-keypair']];
  static override usage = Command.Usage({
    category: 'Manager',
    description: 'print a new access key and secret key, in a form for shells',
    details: 'They are random and nobody knows them yet: they give access once they are part of the installation.',
    examples: [['Make a pair', '$0 mgr generate-api-keypair']],
  });

  async perform(): Promise<number> {
    const [accessKey, secretKey] = [newAccessKey(), newSecretKey()];
    if (this.json) this.printJson({ accessKey, secretKey });
    this.say(`export BACKEND_ACCESS_KEY=${accessKey}\nexport BACKEND_SECRET_KEY=${secretKey}`);
    return 0;
  }
}
