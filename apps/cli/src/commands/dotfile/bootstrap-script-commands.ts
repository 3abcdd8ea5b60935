import { resolve } from 'node:path';
import { ApiCommand } from '@backend.ai/cli-kit';
import { Command, Option, UsageError } from 'clipanion';
import { readText } from '../../session-creating-command.ts';

const category = 'Sessions';

export class BootstrapScriptGet extends ApiCommand {
  static override paths = [['bootstrap-script', 'get']];
  static override usage = Command.Usage({
    category,
    description: 'Print the script that your sessions begin with',
    examples: [['It', '$0 bootstrap-script get']],
  });

  override async perform(): Promise<undefined> {
    const script = await (await this.connect()).dotfiles.bootstrapScript();
    if (this.json) return void this.printJson({ script });
    this.context.stdout.write(script);
  }
}

export class BootstrapScriptSet extends ApiCommand {
  static override paths = [['bootstrap-script', 'set']];
  static override usage = Command.Usage({
    category,
    description: 'Say what sessions begin with that name no script of their own',
    examples: [
      ['From a file', '$0 bootstrap-script set begin.sh'],
      ['Nothing any more', '$0 bootstrap-script set --none'],
    ],
  });

  none = Option.Boolean('--none', false, { description: 'They begin with nothing' });
  file = Option.String({ name: 'FILE', required: false });

  override async perform(): Promise<undefined> {
    const script = this.#script();
    await (await this.connect()).dotfiles.setBootstrapScript(script);
    if (this.json) return void this.printJson({ script });
    this.say(script === '' ? 'Sessions begin with nothing.' : 'Sessions that are created from now on begin with it.');
  }

  #script(): string {
    if ((this.file === undefined) !== this.none) throw new UsageError('Name a file, or give --none.');
    return this.file === undefined ? '' : readText('FILE', resolve(this.context.cwd, this.file));
  }
}
