import { text } from 'node:stream/consumers';
import { ApiCommand, type CommandBundle, writeTable } from '@backend.ai/cli-kit';
import type { RegistryView } from '@backend.ai/client';
import { Command, Option, UsageError } from 'clipanion';
import { askSecret } from '../../../prompt.ts';
import { listed, onlyGiven } from '../../../session-creating-command.ts';
import { FieldsCommand } from '../field-options.ts';

const usage = (description: string, line: string, what: string) =>
  Command.Usage({ category: 'Administration', description, examples: [[what, `$0 admin registry ${line}`]] });

class RegistryList extends ApiCommand {
  static override paths = [['admin', 'registry', 'list']];
  static override usage = usage('List where images come from', 'list', 'With the last rescan of each');

  override async perform(): Promise<undefined> {
    const registries = await (await this.connect()).admin.registries.list();
    if (this.json) return void this.printJson({ registries });
    if (registries.length === 0)
      return void this.say('There are none. Add one: ./backend.ai admin registry add NAME URL');
    writeTable(
      this.context.stdout,
      ['name', 'url', 'user', 'active', 'images', 'scanned', 'failed'],
      registries.map((registry) => [
        registry.name,
        registry.url,
        registry.username ?? '-',
        registry.isActive ? 'yes' : 'no',
        String(registry.images),
        registry.scannedAt ?? '-',
        registry.lastScan === null ? '-' : String(registry.lastScan.failed),
      ]),
    );
  }
}

class RegistryInfo extends FieldsCommand {
  static override paths = [['admin', 'registry', 'info']];
  static override usage = usage('Everything about one registry', 'info main', 'With what could not be read');
  name = Option.String({ name: 'NAME', required: true });
  constructor() {
    super([]);
  }
  override async perform(): Promise<undefined> {
    const registry = await (await this.connect()).admin.registries.get(this.name);
    if (this.json) return void this.printJson({ registry });
    this.show(registry);
  }
}

/** What can be said of a registry. Its password is read from standard input, as arguments can be read by everybody. */
abstract class RegistryChange extends FieldsCommand {
  username = Option.String('--username', { description: 'To log in with; the password is asked for' });
  passwordStdin = Option.Boolean('--password-stdin', false, { description: 'Read the password from standard input' });
  noCredentials = Option.Boolean('--no-credentials', false, { description: 'It wants none' });
  repositories = Option.Array('--repository', [], {
    description: 'Look only into this one and what is below it; also several, with commas',
  });
  active = Option.Boolean('--active', { description: 'Whether rescans look into it (--no-active: not)' });

  constructor() {
    super([]);
  }

  protected async changes(): Promise<{
    username?: string | null;
    password?: string | null;
    repositories?: string[];
    isActive?: boolean;
  }> {
    const { username, noCredentials, active } = this;
    if (noCredentials && (username !== undefined || this.passwordStdin)) {
      throw new UsageError('--no-credentials stands alone.');
    }
    const wantsPassword = username !== undefined || this.passwordStdin;
    return onlyGiven({
      username: noCredentials ? null : username,
      password: noCredentials ? null : wantsPassword ? await this.#readPassword() : undefined,
      repositories: listed(this.repositories),
      isActive: active,
    });
  }

  async #readPassword(): Promise<string> {
    if (this.passwordStdin) return (await text(this.context.stdin)).replace(/\r?\n$/, '');
    return await askSecret(this.context, 'Password for the registry: ', '--password-stdin');
  }

  protected tell(registry: RegistryView, text: string): undefined {
    if (this.json) return void this.printJson({ registry });
    this.say(text);
    this.note(`  Look what it has: ./backend.ai image rescan ${registry.name}`);
  }
}

class RegistryAdd extends RegistryChange {
  static override paths = [['admin', 'registry', 'add']];
  static override usage = usage('Add a registry', 'add main https://registry.example:5000', 'Of everybody');
  name = Option.String({ name: 'NAME', required: true });
  url = Option.String({ name: 'URL', required: true });

  override async perform(): Promise<undefined> {
    const input = { name: this.name, url: this.url, ...(await this.changes()) };
    const registry = await (await this.connect()).admin.registries.create(input);
    return this.tell(registry, `The registry ${registry.name} was added.`);
  }
}

class RegistryUpdate extends RegistryChange {
  static override paths = [['admin', 'registry', 'update']];
  static override usage = usage('Change a registry', 'update main --username puller', 'Other credentials');
  url = Option.String('--url', { description: 'Where it is; its images are forgotten with a change' });
  name = Option.String({ name: 'NAME', required: true });

  override async perform(): Promise<undefined> {
    const input = { name: this.name, ...(this.url === undefined ? {} : { url: this.url }), ...(await this.changes()) };
    const registry = await (await this.connect()).admin.registries.modify(input);
    return this.tell(registry, `The registry ${registry.name} was changed.`);
  }
}

class RegistryRemove extends ApiCommand {
  static override paths = [
    ['admin', 'registry', 'remove'],
    ['admin', 'registry', 'delete'],
  ];
  static override usage = usage('Remove a registry and forget its images', 'remove main', 'By its name');
  name = Option.String({ name: 'NAME', required: true });

  override async perform(): Promise<undefined> {
    await (await this.connect()).admin.registries.delete(this.name);
    if (this.json) return void this.printJson({ removed: this.name });
    this.say(`The registry ${this.name} was removed, and its images are offered no more.`);
  }
}

export const commands: CommandBundle['commands'] = [
  RegistryList,
  RegistryInfo,
  RegistryAdd,
  RegistryUpdate,
  RegistryRemove,
];
