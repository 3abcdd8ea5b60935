import { ApiCommand, type CommandBundle, writeTable } from '@backend.ai/cli-kit';
import { Command, Option, UsageError } from 'clipanion';
import { slotsText } from '../../../session-texts.ts';
import { type FieldOption, FieldsCommand } from '../field-options.ts';

const usage = (description: string, line: string, what: string) =>
  Command.Usage({ category: 'Administration', description, examples: [[what, `$0 admin resource-preset ${line}`]] });

const amounts: readonly FieldOption[] = [
  { field: 'resourceSlots', flag: '-r,--resource-slots', kind: 'slots', description: 'cpu=2,mem=4g, or JSON' },
  { field: 'sharedMemory', flag: '--shared-memory', kind: 'limit', description: 'Bytes, or none' },
];

class PresetList extends ApiCommand {
  static override paths = [['admin', 'resource-preset', 'list']];
  static override usage = usage('List the resource presets of all groups', 'list', 'With their ids');
  override async perform(): Promise<undefined> {
    const presets = await (await this.connect()).admin.resourcePresets.list();
    if (this.json) return void this.printJson({ presets });
    writeTable(
      this.context.stdout,
      ['name', 'group', 'resources', 'id'],
      presets.map((preset) => [preset.name, preset.resourceGroup ?? '-', slotsText(preset.resourceSlots), preset.id]),
    );
  }
}

class PresetAdd extends FieldsCommand {
  static override paths = [['admin', 'resource-preset', 'add']];
  static override usage = usage('Create a resource preset', 'add small -r cpu=1,mem=2g', 'For all groups');
  name = Option.String({ name: 'NAME', required: true });
  constructor() {
    super([
      ...amounts,
      {
        field: 'resourceGroup',
        flag: '--scaling-group,--resource-group',
        kind: 'text',
        description: 'Only for this group',
      },
    ]);
  }
  override async perform(): Promise<undefined> {
    const { resourceSlots, ...given } = this.given();
    if (resourceSlots === undefined) throw new UsageError('--resource-slots is missing.');
    const input = { name: this.name, resourceSlots: resourceSlots as Record<string, string>, ...given };
    const preset = await (await this.connect()).admin.resourcePresets.create(input);
    if (this.json) return void this.printJson({ preset });
    this.say(`The resource preset ${preset.name} was created (${preset.id}).`);
  }
}

class PresetUpdate extends FieldsCommand {
  static override paths = [['admin', 'resource-preset', 'update']];
  static override usage = usage('Change a resource preset', 'update ID -r cpu=2,mem=4g', 'Its amounts');
  id = Option.String({ name: 'ID', required: true });
  constructor() {
    super([...amounts, { field: 'name', flag: '--name', kind: 'text', description: 'Another name' }]);
  }
  override async perform(): Promise<undefined> {
    const preset = await (await this.connect()).admin.resourcePresets.modify({ id: this.id, ...this.given() });
    if (this.json) return void this.printJson({ preset });
    this.show(preset);
  }
}

class PresetDelete extends ApiCommand {
  static override paths = [['admin', 'resource-preset', 'delete']];
  static override usage = usage('Delete a resource preset', 'delete ID', 'By its id');
  id = Option.String({ name: 'ID', required: true });
  override async perform(): Promise<undefined> {
    await (await this.connect()).admin.resourcePresets.delete(this.id);
    if (this.json) return void this.printJson({ deleted: this.id });
    this.say(`The resource preset ${this.id} was deleted.`);
  }
}

export const commands: CommandBundle['commands'] = [PresetList, PresetAdd, PresetUpdate, PresetDelete];
