import { text } from 'node:stream/consumers';
import type { CommandBundle } from '@backend.ai/cli-kit';
import type { RegistryView } from '@backend.ai/client';
import { Command, Option, UsageError } from 'clipanion';
import { askSecret } from '../../../prompt.ts';
import { listed, onlyGiven } from '../../../session-creating-command.ts';
import { adminCommand } from '../admin-command.ts';
import { adminNoun } from '../admin-noun.ts';
import { FieldsCommand } from '../field-options.ts';

const usage = (description: string, line: string, what: string) =>
  Command.Usage({ category: 'Administration', description, examples: [[what, `$0 admin registry ${line}`]] });

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

export const commands: CommandBundle['commands'] = [
  ...adminNoun({
    words: ['registry'],
    title: 'registry',
    keys: ['registry', 'registries'],
    ref: 'name',
    store: (client) => client.admin.registries,
    list: {
      description: 'List where images come from',
      example: ['With the last rescan of each', 'list'],
      none: 'There are none. Add one: ./backend.ai admin registry add NAME URL',
      columns: {
        name: ({ name }) => name,
        url: ({ url }) => url,
        user: ({ username }) => username,
        active: ({ isActive }) => isActive,
        images: ({ images }) => images,
        scanned: ({ scannedAt }) => scannedAt,
        failed: ({ lastScan }) => lastScan?.failed,
      },
    },
    info: { description: 'Everything about one registry', example: ['With what could not be read', 'info main'] },
  }),
  RegistryAdd,
  RegistryUpdate,
  adminCommand(
    {
      words: [
        ['registry', 'remove'],
        ['registry', 'delete'],
      ],
      description: 'Remove a registry and forget its images',
      example: ['By its name', 'admin registry remove main'],
      takes: ['NAME'],
    },
    async (client, { names: [name = ''] }) => {
      await client.admin.registries.delete(name);
      return {
        document: { removed: name },
        show: `The registry ${name} was removed, and its images are offered no more.`,
      };
    },
  ),
];
