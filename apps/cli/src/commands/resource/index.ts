import { ApiCommand, type CommandBundle, writeTable } from '@backend.ai/cli-kit';
import { Command, Option } from 'clipanion';
import { slotsText } from '../../session-texts.ts';

class UsableGroups extends ApiCommand {
  static override paths = [
    ['scaling-group', 'list'],
    ['resource-group', 'list'],
  ];
  static override usage = Command.Usage({
    category: 'Resources',
    description: 'List the resource groups that you may use',
    examples: [['Those of all your projects', '$0 scaling-group list']],
  });
  project = Option.String('-g,--group', { description: 'As seen from this project' });
  override async perform(): Promise<undefined> {
    const groups = await (await this.connect()).resourceGroups.list(
      this.project === undefined ? {} : { project: this.project },
    );
    if (this.json) return void this.printJson({ groups });
    writeTable(
      this.context.stdout,
      ['name', 'default', 'session types', 'description'],
      groups.map((group) => [
        group.name,
        group.isDefault ? 'yes' : '',
        group.allowedSessionTypes.join(', '),
        group.description,
      ]),
    );
  }
}

class PresetList extends ApiCommand {
  static override paths = [['resource-preset', 'list']];
  static override usage = Command.Usage({
    category: 'Resources',
    description: 'List resource presets, and which of them would start now',
    examples: [['In the groups that you may use', '$0 resource-preset list']],
  });
  project = Option.String('-g,--group', { description: 'Project that would own the session' });
  group = Option.String('--scaling-group,--resource-group', { description: 'Only in this resource group' });
  override async perform(): Promise<undefined> {
    const check = await (await this.connect()).resourcePresets.check({
      ...(this.project === undefined ? {} : { project: this.project }),
      ...(this.group === undefined ? {} : { resourceGroup: this.group }),
    });
    if (this.json) return void this.printJson({ ...check });
    if (check.presets.length === 0) return void this.say('There are no resource presets.');
    writeTable(
      this.context.stdout,
      ['name', 'resources', 'starts now in'],
      check.presets.map((preset) => [
        preset.name,
        slotsText(preset.resourceSlots),
        preset.allocatableIn.join(', ') || '-',
      ]),
    );
  }
}

export const commands: CommandBundle['commands'] = [UsableGroups, PresetList];
