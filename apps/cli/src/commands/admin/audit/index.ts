import type { CommandBundle } from '@backend.ai/cli-kit';
import { adminCommand, pageOptions, table } from '../admin-command.ts';

export const commands: CommandBundle['commands'] = [
  adminCommand(
    {
      words: [['audit', 'list']],
      description: 'Show who changed what, newest first',
      example: ['All that was done to users', 'admin audit list --kind user'],
      options: [
        { field: 'user', flag: '-u,--user', kind: 'text', description: 'Done by this address, or by operator' },
        { field: 'action', flag: '--action', kind: 'text', description: 'Such as user:modify' },
        { field: 'targetKind', flag: '--kind', kind: 'text', description: 'What it was done to: user, keypair …' },
        { field: 'targetId', flag: '--id', kind: 'text', description: 'Which one' },
        { field: 'requestId', flag: '--request', kind: 'text', description: 'By this request' },
        ...pageOptions,
      ],
    },
    async (client, { fields }) => {
      const page = await client.admin.audit.list(fields);
      const items = page.items.map((entry) => ({
        ...entry,
        by: entry.email ?? entry.userId,
        targetId: entry.target.id,
      }));
      const show = table({ items, total: page.total }, [
        'at',
        'by',
        'action',
        'targetId',
        'outcome',
        'requestId',
        'changes',
      ]);
      return { document: { entries: page.items, total: page.total }, show };
    },
  ),
];
