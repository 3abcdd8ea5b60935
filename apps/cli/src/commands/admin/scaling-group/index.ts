import type { CommandBundle } from '@backend.ai/cli-kit';
import { UsageError } from 'clipanion';
import { adminCommand } from '../admin-command.ts';
import { adminNoun } from '../admin-noun.ts';
import type { FieldOption } from '../field-options.ts';

/** `admin scaling-group …`, also `admin resource-group …`. */

const fields: readonly FieldOption[] = [
  { field: 'description', flag: '-d,--description', kind: 'text', description: 'For people' },
  { field: 'isActive', flag: '--active', kind: 'switch', description: 'Takes new sessions (--no-active: none)' },
  { field: 'isPublic', flag: '--public', kind: 'switch', description: 'For everybody (--no-public: who is allowed)' },
  { field: 'isDefault', flag: '--default', kind: 'switch', description: 'Preferred where a session names none' },
  { field: 'scheduler', flag: '--scheduler', kind: 'text', description: 'fifo, lifo, drf or fair-share' },
  { field: 'options', flag: '--scheduler-opts,--options', kind: 'json', description: 'JSON; replaces all options' },
  { field: 'egress', flag: '--egress', kind: 'egress', description: 'What kernels may call: open, none, or JSON' },
];
const users: readonly FieldOption[] = [
  { field: 'domain', flag: '--domain', kind: 'text', description: 'Name of a domain' },
  { field: 'project', flag: '--project', kind: 'text', description: 'Id of a project' },
  { field: 'accessKey', flag: '--keypair', kind: 'text', description: 'Access key of a key pair' },
];

export const commands: CommandBundle['commands'] = [
  ...adminNoun({
    words: ['scaling-group', 'resource-group'],
    title: 'resource group',
    keys: ['group', 'groups'],
    ref: 'name',
    store: (client) => client.admin.resourceGroups,
    list: {
      description: 'List all resource groups',
      example: ['All of them', 'list'],
      columns: {
        name: ({ name }) => name,
        description: ({ description }) => description,
        active: ({ isActive }) => isActive,
        public: ({ isPublic }) => isPublic,
        default: ({ isDefault }) => isDefault,
        scheduler: ({ scheduler }) => scheduler,
        egress: ({ egress }) => egress.policy,
        agents: ({ agents }) => agents,
      },
    },
    info: {
      description: 'Show a resource group with its options and who may use it',
      example: ['One group', 'info default'],
    },
    add: {
      description: 'Create a resource group',
      example: ['For some only', 'add gpu --no-public --scheduler drf'],
      options: fields,
    },
    update: {
      description: 'Change a resource group',
      example: ['Options', 'update gpu --options \'{"pendingTimeout":3600}\''],
      options: fields,
    },
    delete: {
      description: 'Delete a resource group without agents and sessions',
      example: ['By its name', 'delete gpu'],
    },
  }),
  ...(['allow', 'disallow'] as const).map((verb) =>
    adminCommand(
      {
        words: [
          ['scaling-group', verb],
          ['resource-group', verb],
        ],
        description:
          verb === 'allow'
            ? 'Let a domain, project or key pair use a resource group'
            : 'Let a domain, project or key pair use a resource group no more',
        example: ['A domain', `admin scaling-group ${verb} gpu --domain lab`],
        takes: ['NAME'],
        options: users,
      },
      async (client, { names: [name = ''], fields: to }) => {
        if (Object.keys(to).length !== 1) throw new UsageError('Give one of --domain, --project and --keypair.');
        const group = await client.admin.resourceGroups[verb](name, to as { domain: string });
        return { document: { group }, show: group.allowed };
      },
    ),
  ),
];
