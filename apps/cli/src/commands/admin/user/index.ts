import type { CommandBundle } from '@backend.ai/cli-kit';
import { adminCommand, inDomain, loginHint, pageOptions, policyOption, table } from '../admin-command.ts';
import type { FieldOption } from '../field-options.ts';

const words = (verb: string): string[][] => [['user', verb]];
const text = (field: string, flag: string, description: string): FieldOption => ({
  field,
  flag,
  kind: 'text',
  description,
});
const fields: readonly FieldOption[] = [
  text('username', '-u,--username', 'Name for people; the address unless given'),
  text('fullName', '-n,--full-name', 'First and last name'),
  text('role', '-r,--role', 'user, admin (of the domain) or superadmin'),
  text('status', '-s,--status', 'active or inactive'),
  text('description', '--description', 'For people'),
  { field: 'needPasswordChange', flag: '--need-password-change', kind: 'switch', description: 'At the next login' },
  policyOption,
];

export const commands: CommandBundle['commands'] = [
  adminCommand(
    {
      words: words('list'),
      description: 'List users',
      example: ['Deleted ones', 'admin user list --status deleted'],
      options: [
        inDomain,
        text('project', '-g,--group', 'Members of this group'),
        text('status', '-s,--status', 'active, inactive or deleted'),
        text('role', '-r,--role', 'Of this role'),
        ...pageOptions,
      ],
    },
    async (client, given) => {
      const page = await client.admin.users.list(given.fields);
      const show = table(page, ['email', 'fullName', 'role', 'status', 'domain', 'id']);
      return { document: { users: page.items, total: page.total }, show };
    },
  ),
  adminCommand(
    {
      words: words('info'),
      description: 'Show one user',
      example: ['By address', 'admin user info a@lab.org'],
      takes: ['USER'],
    },
    async (client, { names: [ref = ''] }) => {
      const user = await client.admin.users.get(ref);
      return { document: { user }, show: user };
    },
  ),
  adminCommand(
    {
      words: words('add'),
      description: 'Create a user with a key pair, whose secret is shown once',
      example: ['A domain admin', 'admin user add research a@lab.org --role admin'],
      takes: ['DOMAIN', 'EMAIL'],
      options: [text('password', '--password', 'For logging in; none unless given'), ...fields],
    },
    async (client, { names: [domain = '', email = ''], fields: given }) => {
      const { user, keypair, secretKey } = await client.admin.users.create({ domain, email, ...given });
      const show = { email: user.email, id: user.id, accessKey: keypair.accessKey, secretKey };
      return { document: { user, keypair, secretKey }, show, next: loginHint(keypair.accessKey) };
    },
  ),
  adminCommand(
    {
      words: words('update'),
      description: 'Modify a user',
      example: ['Keep out', 'admin user update a@lab.org --status inactive'],
      takes: ['USER'],
      options: [
        text('password', '--password', 'Another password'),
        text('domain', '-d,--domain', 'Another domain; leaves all groups'),
        ...fields,
      ],
    },
    async (client, { names: [ref = ''], fields: given }) => {
      const user = await client.admin.users.modify({ user: ref, ...given });
      return { document: { user }, show: user };
    },
  ),
  adminCommand(
    {
      words: words('password'),
      description: 'Change your own password',
      example: ['The first one', "admin user password --new 'long enough'"],
      options: [
        text('oldPassword', '--old', 'The present one, if there is one'),
        { ...text('newPassword', '--new', 'The new one: at least 8 characters'), required: true },
      ],
    },
    async (client, { fields: given }) => {
      await client.admin.users.changePassword(given as { oldPassword?: string; newPassword: string });
      return { document: { changed: true }, show: 'Your password is changed.' };
    },
  ),
  ...(['delete', 'purge'] as const).map((verb) =>
    adminCommand(
      {
        words: words(verb),
        description: verb === 'delete' ? 'Mark a user deleted, with key pairs' : 'Remove a user and all key pairs',
        example: ['Without live sessions', `admin user ${verb} a@lab.org`],
        takes: ['USER'],
      },
      async (client, { names: [ref = ''] }) => {
        await client.admin.users[verb](ref);
        const done = verb === 'delete' ? 'is deleted' : 'was removed';
        return { document: { [verb]: ref }, show: `The user ${ref} ${done}.` };
      },
    ),
  ),
];
