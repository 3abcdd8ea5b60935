import { ApiCommand, type CommandBundle, writeTable } from '@backend.ai/cli-kit';
import type { WarmPoolView } from '@backend.ai/contract';
import { Command, Option, UsageError } from 'clipanion';
import { slotsText } from '../../../session-texts.ts';
import { type FieldOption, FieldsCommand } from '../field-options.ts';

const usage = (description: string, line: string, what: string) =>
  Command.Usage({ category: 'Administration', description, examples: [[what, `$0 admin warm-pool ${line}`]] });

const size: FieldOption = {
  field: 'size',
  flag: '-n,--size',
  kind: 'number',
  description: 'Kernels that there are to be, on all agents of the group together',
};

/** Of each reason, with how many agents it keeps from starting one. */
const shortages: Readonly<Record<WarmPoolView['shortage'][number]['code'], string>> = {
  'no-agents': 'the group has no agents',
  closed: 'not alive or closed to new sessions',
  'other-architecture': 'another architecture',
  'keeps-no-slots': 'starts no kernels ahead, as it runs processes',
  'egress-policy': 'cannot enforce the egress policy of the group',
  'image-missing': 'does not have the image, nor does a registry',
  failing: 'waits after slots that failed',
  'no-room': 'no room',
  'too-many-slots': 'as many slots as an agent may have',
  'starting-others': 'starts others first',
};

function whyNotMore({ shortage, failing: [latest] }: WarmPoolView): string {
  const reasons = shortage.map(({ code, agents: [only, ...others] }) => {
    if (only === undefined) return shortages[code];
    return `${others.length === 0 ? only : `${others.length + 1} agents`}: ${shortages[code]}`;
  });
  const failure = latest?.error ? [`${latest.error.message} Next try at ${latest.agent} ${latest.retryAt}.`] : [];
  return [...reasons, ...failure].join('; ') || '-';
}

class WarmPoolList extends ApiCommand {
  static override paths = [['admin', 'warm-pool', 'list']];
  static override usage = usage('List warm pools and what there is of them', 'list', 'With how many are ready');
  override async perform(): Promise<undefined> {
    const pools = await (await this.connect()).admin.warmPools.list();
    if (this.json) return void this.printJson({ pools });
    writeTable(
      this.context.stdout,
      ['name', 'group', 'image', 'resources', 'size', 'ready', 'starting', 'why not more'],
      pools.map((pool) => [
        pool.name,
        pool.resourceGroup,
        pool.image,
        slotsText(pool.resources),
        String(pool.size),
        String(pool.ready),
        String(pool.starting),
        whyNotMore(pool),
      ]),
    );
  }
}

class WarmPoolAdd extends FieldsCommand {
  static override paths = [['admin', 'warm-pool', 'add']];
  static override usage = usage(
    'Keep kernels of an image started ahead, for sessions to come',
    'add small-python python -r cpu=1,mem=1g -n 4',
    'Four of Python',
  );
  name = Option.String({ name: 'NAME', required: true });
  image = Option.String({ name: 'IMAGE', required: true });
  constructor() {
    super([
      size,
      { field: 'resources', flag: '-r,--resources', kind: 'slots', description: 'cpu=2,mem=4g: what sessions ask for' },
      { field: 'preset', flag: '--preset', kind: 'text', description: 'The amounts of this resource preset' },
      { field: 'resourceGroup', flag: '--scaling-group,--resource-group', kind: 'text', description: 'Of this group' },
      { field: 'architecture', flag: '--arch', kind: 'text', description: 'Of the image' },
    ]);
  }
  override async perform(): Promise<undefined> {
    const { size: count, ...given } = this.given();
    if (count === undefined) throw new UsageError('--size is missing.');
    const input = { name: this.name, image: this.image, size: count as number, ...given };
    const pool = await (await this.connect()).admin.warmPools.create(input);
    if (this.json) return void this.printJson({ pool });
    this.say(`The warm pool ${pool.name} was created: ${pool.size} × ${pool.image} in ${pool.resourceGroup}.`);
  }
}

class WarmPoolUpdate extends FieldsCommand {
  static override paths = [['admin', 'warm-pool', 'update']];
  static override usage = usage('Change the size of a warm pool', 'update small-python -n 8', 'Eight from now on');
  name = Option.String({ name: 'NAME', required: true });
  constructor() {
    super([size]);
  }
  override async perform(): Promise<undefined> {
    const { size: count } = this.given();
    if (count === undefined) throw new UsageError('--size is missing.');
    const pool = await (await this.connect()).admin.warmPools.modify({ name: this.name, size: count as number });
    if (this.json) return void this.printJson({ pool });
    this.show(pool);
  }
}

class WarmPoolDelete extends ApiCommand {
  static override paths = [['admin', 'warm-pool', 'delete']];
  static override usage = usage(
    'Delete a warm pool; sessions that came of it stay',
    'delete small-python',
    'By its name',
  );
  name = Option.String({ name: 'NAME', required: true });
  override async perform(): Promise<undefined> {
    await (await this.connect()).admin.warmPools.delete(this.name);
    if (this.json) return void this.printJson({ deleted: this.name });
    this.say(`The warm pool ${this.name} was deleted.`);
  }
}

export const commands: CommandBundle['commands'] = [WarmPoolList, WarmPoolAdd, WarmPoolUpdate, WarmPoolDelete];
