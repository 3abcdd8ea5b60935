import type { CommandBundle } from '@backend.ai/cli-kit';
import { slotsText } from '../../../session-texts.ts';
import { inGroup } from '../admin-command.ts';
import { adminNoun } from '../admin-noun.ts';

export const commands: CommandBundle['commands'] = adminNoun({
  words: ['agent'],
  title: 'agent',
  keys: ['agent', 'agents'],
  ref: 'id',
  store: (client) => client.admin.agents,
  list: {
    description: 'List agents',
    example: ['Those that are silent', 'list -s LOST'],
    options: [
      { field: 'status', flag: '-s,--status', kind: 'text', description: 'ALIVE, LOST or TERMINATED; all when absent' },
      inGroup('Only of this group'),
    ],
    columns: {
      id: ({ id }) => id,
      status: ({ status }) => status,
      group: ({ resourceGroup }) => resourceGroup,
      schedulable: ({ schedulable }) => schedulable,
      kernels: ({ kernels }) => kernels,
      capacity: ({ capacity }) => slotsText(capacity),
      used: ({ used }) => slotsText(used),
      warm: ({ warm }) => slotsText(warm),
    },
  },
  info: { description: 'Show an agent', example: ['By its id', 'info i-one'] },
  update: {
    description: 'Keep an agent from new sessions, or move it',
    example: ['Before work on it', 'update i-one --no-schedulable'],
    options: [
      { field: 'schedulable', flag: '--schedulable', kind: 'switch', description: 'Takes new sessions' },
      inGroup('Where it belongs'),
      {
        field: 'force',
        flag: '--force',
        kind: 'switch',
        description: 'Move it although it has kernels; they are ended',
      },
    ],
  },
});
