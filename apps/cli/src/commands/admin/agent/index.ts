import { ApiCommand, type CommandBundle, writeTable } from '@backend.ai/cli-kit';
import { Command, Option } from 'clipanion';
import { slotsText } from '../../../session-texts.ts';
import { FieldsCommand } from '../field-options.ts';

const usage = (description: string, line: string, what: string) =>
  Command.Usage({ category: 'Administration', description, examples: [[what, `$0 admin agent ${line}`]] });

class AgentList extends ApiCommand {
  static override paths = [['admin', 'agent', 'list']];
  static override usage = usage('List agents', 'list -s LOST', 'Those that are silent');
  status = Option.String('-s,--status', { description: 'ALIVE, LOST or TERMINATED; all when absent' });
  group = Option.String('--scaling-group,--resource-group', { description: 'Only of this group' });
  override async perform(): Promise<undefined> {
    const filter = {
      ...(this.status === undefined ? {} : { status: this.status as 'ALIVE' }),
      ...(this.group === undefined ? {} : { resourceGroup: this.group }),
    };
    const agents = await (await this.connect()).admin.agents.list(filter);
    if (this.json) return void this.printJson({ agents });
    writeTable(
      this.context.stdout,
      ['id', 'status', 'group', 'schedulable', 'kernels', 'capacity', 'used', 'warm'],
      agents.map((agent) => [
        agent.id,
        agent.status,
        agent.resourceGroup,
        agent.schedulable ? 'yes' : 'no',
        String(agent.kernels),
        slotsText(agent.capacity),
        slotsText(agent.used),
        slotsText(agent.warm),
      ]),
    );
  }
}

class AgentInfo extends FieldsCommand {
  static override paths = [['admin', 'agent', 'info']];
  static override usage = usage('Show an agent', 'info i-one', 'By its id');
  id = Option.String({ name: 'ID', required: true });
  constructor() {
    super([]);
  }
  override async perform(): Promise<undefined> {
    const agent = await (await this.connect()).admin.agents.get(this.id);
    if (this.json) return void this.printJson({ agent });
    this.show(agent);
  }
}

class AgentUpdate extends FieldsCommand {
  static override paths = [['admin', 'agent', 'update']];
  static override usage = usage(
    'Keep an agent from new sessions, or move it',
    'update i-one --no-schedulable',
    'Before work on it',
  );
  id = Option.String({ name: 'ID', required: true });
  constructor() {
    super([
      { field: 'schedulable', flag: '--schedulable', kind: 'switch', description: 'Takes new sessions' },
      {
        field: 'resourceGroup',
        flag: '--scaling-group,--resource-group',
        kind: 'text',
        description: 'Where it belongs',
      },
      {
        field: 'force',
        flag: '--force',
        kind: 'switch',
        description: 'Move it although it has kernels; they are ended',
      },
    ]);
  }
  override async perform(): Promise<undefined> {
    const agent = await (await this.connect()).admin.agents.modify({ id: this.id, ...this.given() });
    if (this.json) return void this.printJson({ agent });
    this.show(agent);
  }
}

export const commands: CommandBundle['commands'] = [AgentList, AgentInfo, AgentUpdate];
