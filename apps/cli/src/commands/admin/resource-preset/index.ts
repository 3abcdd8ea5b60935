import type { CommandBundle } from '@backend.ai/cli-kit';
import { slotsText } from '../../../session-texts.ts';
import { inGroup } from '../admin-command.ts';
import { adminNoun } from '../admin-noun.ts';
import type { FieldOption } from '../field-options.ts';

const amounts: FieldOption = {
  field: 'resourceSlots',
  flag: '-r,--resource-slots',
  kind: 'slots',
  description: 'cpu=2,mem=4g, or JSON',
};
const sharedMemory: FieldOption = {
  field: 'sharedMemory',
  flag: '--shared-memory',
  kind: 'limit',
  description: 'Bytes, or none',
};

export const commands: CommandBundle['commands'] = adminNoun({
  words: ['resource-preset'],
  title: 'resource preset',
  keys: ['preset', 'presets'],
  ref: 'id',
  store: (client) => client.admin.resourcePresets,
  list: {
    description: 'List the resource presets of all groups',
    example: ['With their ids', 'list'],
    columns: {
      name: ({ name }) => name,
      group: ({ resourceGroup }) => resourceGroup,
      resources: ({ resourceSlots }) => slotsText(resourceSlots),
      id: ({ id }) => id,
    },
  },
  add: {
    description: 'Create a resource preset',
    example: ['For all groups', 'add small -r cpu=1,mem=2g'],
    options: [{ ...amounts, required: true }, sharedMemory, inGroup('Only for this group')],
    made: ({ name, id }) => `The resource preset ${name} was created (${id}).`,
  },
  update: {
    description: 'Change a resource preset',
    example: ['Its amounts', 'update ID -r cpu=2,mem=4g'],
    options: [amounts, sharedMemory, { field: 'name', flag: '--name', kind: 'text', description: 'Another name' }],
  },
  delete: { description: 'Delete a resource preset', example: ['By its id', 'delete ID'] },
});
