import { resolve } from 'node:path';
import { ApiCommand, writeTable } from '@backend.ai/cli-kit';
import type { DotfileOwner, DotfileView } from '@backend.ai/client';
import { Command, Option } from 'clipanion';
import { readText } from '../../session-creating-command.ts';

const category = 'Sessions';

/** Of the key pair, or of a domain or a group. */
abstract class DotfileCommand extends ApiCommand {
  domain = Option.String('-d,--domain', { description: 'Those of this domain, or of a group of it' });
  group = Option.String('-g,--group', { description: 'Those of this group (project), by name or id' });

  protected get of(): DotfileOwner | undefined {
    const { domain, group: project } = this;
    if (project !== undefined) return { project, ...(domain === undefined ? {} : { domain }) };
    return domain === undefined ? undefined : { domain };
  }
}

export class DotfileList extends DotfileCommand {
  static override paths = [['dotfile', 'list']];
  static override usage = Command.Usage({
    category,
    description: 'List the files that your sessions find in their home folder',
    examples: [
      ['Your own', '$0 dotfile list'],
      ['Those that a group has', '$0 dotfile list --group genome'],
    ],
  });

  override async perform(): Promise<undefined> {
    const dotfiles = await (await this.connect()).dotfiles.list(this.of);
    if (this.json) return void this.printJson({ dotfiles });
    if (dotfiles.length === 0) return void this.say('There are none.');
    const rows = dotfiles.map(({ path, permission, content }) => [path, permission, `${Buffer.byteLength(content)}`]);
    writeTable(this.context.stdout, ['PATH', 'PERMISSION', 'BYTES'], rows);
  }
}

export class DotfileGet extends DotfileCommand {
  static override paths = [['dotfile', 'get']];
  static override usage = Command.Usage({
    category,
    description: 'Print what a dotfile contains',
    examples: [['One', '$0 dotfile get .vimrc']],
  });

  dotfilePath = Option.String({ name: 'PATH', required: true });

  override async perform(): Promise<undefined> {
    const dotfile = await (await this.connect()).dotfiles.get(this.dotfilePath, this.of);
    if (this.json) return void this.printJson({ dotfile });
    this.context.stdout.write(dotfile.content);
  }
}

abstract class DotfileWriting extends DotfileCommand {
  file = Option.String('-f,--file', { required: true, description: 'Local file with what it contains' });
  dotfilePath = Option.String({ name: 'PATH', required: true });

  protected dotfile(permission: string): DotfileView & { owner?: DotfileOwner } {
    const content = readText('--file', resolve(this.context.cwd, this.file));
    const { of: owner } = this;
    return { path: this.dotfilePath, permission, content, ...(owner ? { owner } : {}) };
  }
}

export class DotfileCreate extends DotfileWriting {
  static override paths = [['dotfile', 'create']];
  static override usage = Command.Usage({
    category,
    description: 'Put a file into the home folder of each session that starts from now on',
    examples: [
      ['From a local file', '$0 dotfile create .vimrc -f ~/.vimrc --perm 600'],
      ['Into those of everybody in a group', '$0 dotfile create .condarc -f condarc --group genome'],
    ],
  });

  permission = Option.String('--perm,--permission', '644', { description: 'Three octal digits (644)' });

  override async perform(): Promise<undefined> {
    await (await this.connect()).dotfiles.create(this.dotfile(this.permission));
    if (this.json) return void this.printJson({ created: this.dotfilePath });
    this.say(`Sessions that start from now on have ${this.dotfilePath}.`);
  }
}

export class DotfileUpdate extends DotfileWriting {
  static override paths = [['dotfile', 'update']];
  static override usage = Command.Usage({
    category,
    description: 'Change what a dotfile contains',
    examples: [['From a local file', '$0 dotfile update .vimrc -f ~/.vimrc']],
  });

  permission = Option.String('--perm,--permission', { description: 'Three octal digits; else as before' });

  override async perform(): Promise<undefined> {
    const { dotfiles } = await this.connect();
    const permission = this.permission ?? (await dotfiles.get(this.dotfilePath, this.of)).permission;
    await dotfiles.modify(this.dotfile(permission));
    if (this.json) return void this.printJson({ updated: this.dotfilePath });
    this.say(`Sessions that start from now on have the new ${this.dotfilePath}.`);
  }
}

export class DotfileDelete extends DotfileCommand {
  static override paths = [['dotfile', 'delete']];
  static override usage = Command.Usage({
    category,
    description: 'Delete a dotfile; sessions that have it keep it',
    examples: [['One', '$0 dotfile delete .vimrc']],
  });

  dotfilePath = Option.String({ name: 'PATH', required: true });

  override async perform(): Promise<undefined> {
    await (await this.connect()).dotfiles.delete(this.dotfilePath, this.of);
    if (this.json) return void this.printJson({ deleted: this.dotfilePath });
    this.say(`The dotfile ${this.dotfilePath} is deleted.`);
  }
}
