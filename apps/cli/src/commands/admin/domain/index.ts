import type { CommandBundle } from '@backend.ai/cli-kit';
import { adminCommand, pageOptions, table, tenantFields } from '../admin-command.ts';

const words = (verb: string): string[][] => [['domain', verb]];

export const commands: CommandBundle['commands'] = [
  adminCommand(
    { words: words('list'), description: 'List domains', example: ['All', 'admin domain list'], options: pageOptions },
    async (client, { fields }) => {
      const page = await client.admin.domains.list(fields);
      return {
        document: { domains: page.items, total: page.total },
        show: table(page, ['name', 'isActive', 'description']),
      };
    },
  ),
  adminCommand(
    {
      words: words('info'),
      description: 'Show one domain',
      example: ['One', 'admin domain info default'],
      takes: ['NAME'],
    },
    async (client, { names: [name = ''] }) => {
      const domain = await client.admin.domains.get(name);
      return { document: { domain }, show: domain };
    },
  ),
  adminCommand(
    {
      words: words('add'),
      description: 'Create a domain',
      example: ['With a limit', 'admin domain add research --total-resource-slots cpu=64'],
      takes: ['NAME'],
      options: tenantFields,
    },
    async (client, { names: [name = ''], fields }) => {
      const domain = await client.admin.domains.create({ name, ...fields });
      return { document: { domain }, show: `The domain ${name} was created.` };
    },
  ),
  adminCommand(
    {
      words: words('update'),
      description: 'Modify a domain',
      example: ['A description', 'admin domain update research --description "All labs"'],
      takes: ['NAME'],
      options: tenantFields,
    },
    async (client, { names: [name = ''], fields }) => {
      const domain = await client.admin.domains.modify({ name, ...fields });
      return { document: { domain }, show: domain };
    },
  ),
  adminCommand(
    {
      words: words('delete'),
      description: 'Make a domain inactive: its users get in no more',
      example: ['One without live sessions', 'admin domain delete research'],
      takes: ['NAME'],
    },
    async (client, { names: [name = ''] }) => {
      await client.admin.domains.delete(name);
      return { document: { deleted: name }, show: `The domain ${name} is inactive.` };
    },
  ),
  adminCommand(
    {
      words: words('purge'),
      description: 'Remove a domain that has neither users nor projects',
      example: ['For good', 'admin domain purge research'],
      takes: ['NAME'],
    },
    async (client, { names: [name = ''] }) => {
      await client.admin.domains.purge(name);
      return { document: { purged: name }, show: `The domain ${name} was removed.` };
    },
  ),
];
