import { ApiCommand, type CommandBundle, writeTable } from '@backend.ai/cli-kit';
import { Command, Option, UsageError } from 'clipanion';
import { type FieldOption, FieldsCommand } from '../field-options.ts';

/** `admin scaling-group …`, also `admin resource-group …`. */

const both = (...words: string[]): string[][] => [
  ['admin', 'scaling-group', ...words],
  ['admin', 'resource-group', ...words],
];
const usage = (description: string, line: string, what: string) =>
  Command.Usage({ category: 'Administration', description, examples: [[what, `$0 admin scaling-group ${line}`]] });

const fields: readonly FieldOption[] = [
  { field: 'description', flag: '-d,--description', kind: 'text', description: 'For people' },
  { field: 'isActive', flag: '--active', kind: 'switch', description: 'Takes new sessions (--no-active: none)' },
  { field: 'isPublic', flag: '--public', kind: 'switch', description: 'For everybody (--no-public: who is allowed)' },
  { field: 'isDefault', flag: '--default', kind: 'switch', description: 'Preferred where a session names none' },
  { field: 'scheduler', flag: '--scheduler', kind: 'text', description: 'fifo, lifo, drf or fair-share' },
  { field: 'options', flag: '--scheduler-opts,--options', kind: 'json', description: 'JSON; replaces all options' },
  { field: 'egress', flag: '--egress', kind: 'egress', description: 'What kernels may call: open, none, or JSON' },
];

class GroupList extends ApiCommand {
  static override paths = both('list');
  static override usage = usage('List all resource groups', 'list', 'All of them');
  override async perform(): Promise<undefined> {
    const groups = await (await this.connect()).admin.resourceGroups.list();
    if (this.json) return void this.printJson({ groups });
    writeTable(
      this.context.stdout,
      ['name', 'description', 'active', 'public', 'default', 'scheduler', 'egress', 'agents'],
      groups.map((group) => [
        group.name,
        group.description,
        ...[group.isActive, group.isPublic, group.isDefault].map((value) => (value ? 'yes' : 'no')),
        group.scheduler,
        group.egress.policy,
        String(group.agents),
      ]),
    );
  }
}

class GroupInfo extends FieldsCommand {
  static override paths = both('info');
  static override usage = usage(
    'Show a resource group with its options and who may use it',
    'info default',
    'One group',
  );
  name = Option.String({ name: 'NAME', required: true });
  constructor() {
    super([]);
  }
  override async perform(): Promise<undefined> {
    const group = await (await this.connect()).admin.resourceGroups.get(this.name);
    if (this.json) return void this.printJson({ group });
    this.show(group);
  }
}

class GroupAdd extends FieldsCommand {
  static override paths = both('add');
  static override usage = usage('Create a resource group', 'add gpu --no-public --scheduler drf', 'For some only');
  name = Option.String({ name: 'NAME', required: true });
  constructor() {
    super(fields);
  }
  override async perform(): Promise<undefined> {
    const group = await (await this.connect()).admin.resourceGroups.create({ name: this.name, ...this.given() });
    if (this.json) return void this.printJson({ group });
    this.say(`The resource group ${this.name} was created.`);
  }
}

class GroupUpdate extends FieldsCommand {
  static override paths = both('update');
  static override usage = usage(
    'Change a resource group',
    'update gpu --options \'{"pendingTimeout":3600}\'',
    'Options',
  );
  name = Option.String({ name: 'NAME', required: true });
  constructor() {
    super(fields);
  }
  override async perform(): Promise<undefined> {
    const group = await (await this.connect()).admin.resourceGroups.modify({ name: this.name, ...this.given() });
    if (this.json) return void this.printJson({ group });
    this.show(group);
  }
}

class GroupDelete extends ApiCommand {
  static override paths = both('delete');
  static override usage = usage('Delete a resource group without agents and sessions', 'delete gpu', 'By its name');
  name = Option.String({ name: 'NAME', required: true });
  override async perform(): Promise<undefined> {
    await (await this.connect()).admin.resourceGroups.delete(this.name);
    if (this.json) return void this.printJson({ deleted: this.name });
    this.say(`The resource group ${this.name} was deleted.`);
  }
}

abstract class AllowCommand extends FieldsCommand {
  name = Option.String({ name: 'NAME', required: true });
  domain = Option.String('--domain', { description: 'Name of a domain' });
  project = Option.String('--project', { description: 'Id of a project' });
  keypair = Option.String('--keypair', { description: 'Access key of a key pair' });
  constructor() {
    super([]);
  }
  /** @throws UsageError unless it is exactly one */
  protected get to(): { domain: string } | { project: string } | { accessKey: string } {
    const { domain, project, keypair } = this;
    const given = [domain && { domain }, project && { project }, keypair && { accessKey: keypair }].filter(Boolean);
    if (given.length !== 1) throw new UsageError('Give one of --domain, --project and --keypair.');
    return given[0] as { domain: string };
  }
}

class GroupAllow extends AllowCommand {
  static override paths = both('allow');
  static override usage = usage(
    'Let a domain, project or key pair use a resource group',
    'allow gpu --domain lab',
    'A domain',
  );
  override async perform(): Promise<undefined> {
    const group = await (await this.connect()).admin.resourceGroups.allow(this.name, this.to);
    if (this.json) return void this.printJson({ group });
    this.show(group.allowed);
  }
}

class GroupDisallow extends AllowCommand {
  static override paths = both('disallow');
  static override usage = usage('Take that back', 'disallow gpu --domain lab', 'From a domain');
  override async perform(): Promise<undefined> {
    const group = await (await this.connect()).admin.resourceGroups.disallow(this.name, this.to);
    if (this.json) return void this.printJson({ group });
    this.show(group.allowed);
  }
}

export const commands: CommandBundle['commands'] = [
  GroupList,
  GroupInfo,
  GroupAdd,
  GroupUpdate,
  GroupDelete,
  GroupAllow,
  GroupDisallow,
];
