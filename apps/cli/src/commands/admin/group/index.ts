import type { CommandBundle } from '@backend.ai/cli-kit';
import { adminCommand, inDomain, pageOptions, policyOption, table, tenantFields } from '../admin-command.ts';

const words = (verb: string): string[][] => [
  ['group', verb],
  ['project', verb],
];
const fields = [inDomain, ...tenantFields, policyOption];

export const commands: CommandBundle['commands'] = [
  adminCommand(
    {
      words: words('list'),
      description: 'List groups (projects)',
      example: ['Of one domain', 'admin group list --domain default'],
      options: [inDomain, ...pageOptions],
    },
    async (client, given) => {
      const page = await client.admin.projects.list(given.fields);
      const show = table(page, ['domain', 'name', 'isActive', 'members', 'id']);
      return { document: { groups: page.items, total: page.total }, show };
    },
  ),
  adminCommand(
    {
      words: words('info'),
      description: 'Show one group (project)',
      example: ['By name', 'admin group info default'],
      takes: ['GROUP'],
      options: [inDomain],
    },
    async (client, { names: [project = ''], fields: ref }) => {
      const group = await client.admin.projects.get({ project, ...ref });
      return { document: { group }, show: group };
    },
  ),
  adminCommand(
    {
      words: words('add'),
      description: 'Create a group (project)',
      example: ['In a domain', 'admin group add genome --domain research'],
      takes: ['NAME'],
      options: fields,
    },
    async (client, { names: [name = ''], fields: given }) => {
      const group = await client.admin.projects.create({ name, ...given });
      return { document: { group }, show: `The group ${group.name} was created (${group.id}).` };
    },
  ),
  adminCommand(
    {
      words: words('update'),
      description: 'Modify a group (project)',
      example: ['Another name', 'admin group update genome --name genomes'],
      takes: ['GROUP'],
      options: [...fields, { field: 'name', flag: '--name', kind: 'text', description: 'Another name' }],
    },
    async (client, { names: [project = ''], fields: given }) => {
      const group = await client.admin.projects.modify({ project, ...given });
      return { document: { group }, show: group };
    },
  ),
  ...(['delete', 'purge'] as const).map((verb) =>
    adminCommand(
      {
        words: words(verb),
        description: verb === 'delete' ? 'Make a group (project) inactive' : 'Remove a group (project) for good',
        example: ['Without live sessions', `admin group ${verb} genome`],
        takes: ['GROUP'],
        options: [inDomain],
      },
      async (client, { names: [project = ''], fields: ref }) => {
        await client.admin.projects[verb]({ project, ...ref });
        const done = verb === 'delete' ? 'is inactive' : 'was removed';
        return { document: { [verb]: project }, show: `The group ${project} ${done}.` };
      },
    ),
  ),
  ...(['add-users', 'remove-users'] as const).map((verb) =>
    adminCommand(
      {
        words: words(verb),
        description: verb === 'add-users' ? 'Make users members of a group' : 'Take users out of a group',
        example: ['By address', `admin group ${verb} genome a@lab.org b@lab.org`],
        takes: ['GROUP'],
        several: 'USER',
        options: [inDomain],
      },
      async (client, { names: [project = ''], items: users, fields: ref }) => {
        const call = verb === 'add-users' ? 'addMembers' : 'removeMembers';
        const group = await client.admin.projects[call]({ project, users: [...users], ...ref });
        return { document: { group }, show: `Members of the group ${group.name}: ${group.members}.` };
      },
    ),
  ),
];
