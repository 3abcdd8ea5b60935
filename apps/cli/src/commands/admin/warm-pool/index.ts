import type { CommandBundle } from '@backend.ai/cli-kit';
import type { WarmPoolView } from '@backend.ai/contract';
import { slotsText } from '../../../session-texts.ts';
import { inGroup } from '../admin-command.ts';
import { adminNoun } from '../admin-noun.ts';
import type { FieldOption } from '../field-options.ts';

const size: FieldOption = {
  field: 'size',
  flag: '-n,--size',
  kind: 'number',
  description: 'Kernels that there are to be, on all agents of the group together',
  required: true,
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

/** Managers of before tell neither. */
function whyNotMore({ shortage = [], failing: [latest] = [] }: WarmPoolView): string {
  const reasons = shortage.map(({ code, agents: [only, ...others] }) => {
    if (only === undefined) return shortages[code];
    return `${others.length === 0 ? only : `${others.length + 1} agents`}: ${shortages[code]}`;
  });
  const isFailing = shortage.some(({ code }) => code === 'failing');
  const failure =
    isFailing && latest?.error ? [`${latest.error.message} Next try at ${latest.agent} ${latest.retryAt}.`] : [];
  return [...reasons, ...failure].join('; ') || '-';
}

export const commands: CommandBundle['commands'] = adminNoun({
  words: ['warm-pool'],
  title: 'warm pool',
  keys: ['pool', 'pools'],
  ref: 'name',
  store: (client) => client.admin.warmPools,
  list: {
    description: 'List warm pools and what there is of them',
    example: ['With how many are ready', 'list'],
    columns: {
      name: ({ name }) => name,
      group: ({ resourceGroup }) => resourceGroup,
      image: ({ image }) => image,
      resources: ({ resources }) => slotsText(resources),
      size: ({ size: wanted }) => wanted,
      ready: ({ ready }) => ready,
      starting: ({ starting }) => starting,
      'why not more': whyNotMore,
    },
  },
  add: {
    description: 'Keep kernels of an image started ahead, for sessions to come',
    example: ['Four of Python', 'add small-python python -r cpu=1,mem=1g -n 4'],
    takes: ['name', 'image'],
    options: [
      size,
      { field: 'resources', flag: '-r,--resources', kind: 'slots', description: 'cpu=2,mem=4g: what sessions ask for' },
      { field: 'preset', flag: '--preset', kind: 'text', description: 'The amounts of this resource preset' },
      inGroup('Of this group'),
      { field: 'architecture', flag: '--arch', kind: 'text', description: 'Of the image' },
    ],
    made: (pool) => `The warm pool ${pool.name} was created: ${pool.size} × ${pool.image} in ${pool.resourceGroup}.`,
  },
  update: {
    description: 'Change the size of a warm pool',
    example: ['Eight from now on', 'update small-python -n 8'],
    options: [size],
  },
  delete: {
    description: 'Delete a warm pool; sessions that came of it stay',
    example: ['By its name', 'delete small-python'],
  },
});
