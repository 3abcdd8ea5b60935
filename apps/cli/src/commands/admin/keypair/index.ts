import type { CommandBundle } from '@backend.ai/cli-kit';
import { adminCommand, inDomain, loginHint, pageOptions, policyOption, table } from '../admin-command.ts';
import type { FieldOption } from '../field-options.ts';

const words = (verb: string): string[][] => [['keypair', verb]];
const fields: readonly FieldOption[] = [
  { field: 'isAdmin', flag: '--admin', kind: 'switch', description: "It has the rights of its user's role" },
  { field: 'rateLimit', flag: '-r,--rate-limit', kind: 'number', description: 'Calls per 15 minutes; 0: any number' },
  policyOption,
];

export const commands: CommandBundle['commands'] = [
  adminCommand(
    {
      words: words('list'),
      description: 'List key pairs',
      example: ['Of one user', 'admin keypair list --user a@lab.org'],
      options: [
        { field: 'user', flag: '-u,--user', kind: 'text', description: 'Of this user' },
        inDomain,
        { field: 'isActive', flag: '--active', kind: 'switch', description: 'Active ones (--no-active: the others)' },
        ...pageOptions,
      ],
    },
    async (client, given) => {
      const page = await client.admin.keypairs.list(given.fields);
      const show = table(page, ['accessKey', 'email', 'isActive', 'isAdmin', 'isMain', 'resourcePolicy', 'lastUsedAt']);
      return { document: { keypairs: page.items, total: page.total }, show };
    },
  ),
  adminCommand(
    {
      words: words('info'),
      description: 'Show one key pair, without its secret',
      example: ['One', 'admin keypair info AKIAEXAMPLE'],
      takes: ['ACCESS_KEY'],
    },
    async (client, { names: [accessKey = ''] }) => {
      const keypair = await client.admin.keypairs.get(accessKey);
      return { document: { keypair }, show: keypair };
    },
  ),
  adminCommand(
    {
      words: words('add'),
      description: 'Create a key pair for a user; its secret is shown once',
      example: ['For a user', 'admin keypair add a@lab.org'],
      takes: ['USER'],
      options: fields,
    },
    async (client, { names: [user = ''], fields: given }) => {
      const { keypair, secretKey } = await client.admin.keypairs.create({ user, ...given });
      const show = { accessKey: keypair.accessKey, secretKey };
      return { document: { keypair, secretKey }, show, next: loginHint(keypair.accessKey) };
    },
  ),
  adminCommand(
    {
      words: words('update'),
      description: 'Modify a key pair',
      example: ['Its limit', 'admin keypair update AKIAEXAMPLE --rate-limit 1000'],
      takes: ['ACCESS_KEY'],
      options: fields,
    },
    async (client, { names: [accessKey = ''], fields: given }) => {
      const keypair = await client.admin.keypairs.modify({ accessKey, ...given });
      return { document: { keypair }, show: keypair };
    },
  ),
  ...(['activate', 'deactivate'] as const).map((verb) =>
    adminCommand(
      {
        words: words(verb),
        description: verb === 'activate' ? 'Let a key pair in again' : 'Keep a key pair out',
        example: ['One', `admin keypair ${verb} AKIAEXAMPLE`],
        takes: ['ACCESS_KEY'],
      },
      async (client, { names: [accessKey = ''] }) => {
        const keypair = await client.admin.keypairs.modify({ accessKey, isActive: verb === 'activate' });
        return {
          document: { keypair },
          show: `The key pair ${accessKey} is ${keypair.isActive ? 'active' : 'inactive'}.`,
        };
      },
    ),
  ),
  adminCommand(
    {
      words: words('delete'),
      description: 'Delete a key pair',
      example: ['Without live sessions', 'admin keypair delete AKIAEXAMPLE'],
      takes: ['ACCESS_KEY'],
    },
    async (client, { names: [accessKey = ''] }) => {
      await client.admin.keypairs.delete(accessKey);
      return { document: { deleted: accessKey }, show: `The key pair ${accessKey} was deleted.` };
    },
  ),
];
