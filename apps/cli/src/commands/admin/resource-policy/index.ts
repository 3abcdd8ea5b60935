import type { CommandBundle } from '@backend.ai/cli-kit';
import { adminNoun } from '../admin-noun.ts';
import type { FieldOption } from '../field-options.ts';

/** `admin keypair-resource-policy …`, `user-resource-policy …`, `project-resource-policy …`: the same five for each. */

type Kind = 'keypair' | 'user' | 'project';

const slots = 'cpu=8,mem=16g,cuda.device=Infinity, or JSON';
const fieldsOf: Readonly<Record<Kind, readonly FieldOption[]>> = {
  keypair: [
    [
      'defaultForUnspecified',
      '--default-for-unspecified',
      'text',
      'Slots that are not named: LIMITED (none), UNLIMITED',
    ],
    ['totalResourceSlots', '--total-resource-slots', 'slots', `What all sessions may hold together: ${slots}`],
    ['maxSessionLifetime', '--max-session-lifetime', 'number', 'Seconds until a session ends; 0: never'],
    ['maxConcurrentSessions', '--max-concurrent-sessions', 'number', 'Sessions at work; 0: any number'],
    ['maxConcurrentSftpSessions', '--max-concurrent-sftp-sessions', 'number', 'Private sessions; 0: any number'],
    ['maxPendingSessionCount', '--max-pending-session-count', 'number', 'Sessions that wait; 0: any number'],
    [
      'maxPendingSessionResourceSlots',
      '--max-pending-session-resource-slots',
      'slots',
      'What all that wait may ask for',
    ],
    ['maxContainersPerSession', '--max-containers-per-session', 'number', 'Kernels of a session; 0: any number'],
    ['maxPriority', '--max-priority', 'limit', 'Highest priority of a session (0 to 100), or none'],
    [
      'idleTimeout',
      '--idle-timeout',
      'limit',
      "Seconds without use until a session ends; 0: never; none: installation's",
    ],
  ].map(toOption),
  user: [
    ['totalResourceSlots', '--total-resource-slots', 'slots', `What all sessions may hold together: ${slots}`],
    ['maxSessionCountPerModelSession', '--max-session-count-per-model-session', 'number', 'Of a model service; 0: any'],
    ['maxCustomizedImageCount', '--max-customized-image-count', 'number', 'Images made of sessions; 0: any number'],
    ['maxConcurrentLogins', '--max-concurrent-logins', 'number', 'Logins at a time; 0: any number'],
  ].map(toOption),
  project: [['maxNetworkCount', '--max-network-count', 'number', 'Networks of the project; 0: any number']].map(
    toOption,
  ),
};

function toOption([field, flag, kind, description]: string[]): FieldOption {
  return { field, flag, kind, description } as FieldOption;
}

function commandsOf(kind: Kind, example: string): CommandBundle['commands'] {
  const columns = ['name', ...fieldsOf[kind].slice(0, 4).map(({ field }) => field)];
  const heads = columns.map((column) => column.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`));
  const options = fieldsOf[kind];
  return adminNoun<Record<string, unknown>>({
    words: [`${kind}-resource-policy`],
    title: `${kind} resource policy`,
    keys: ['policy', 'policies'],
    ref: 'name',
    store: (client) => client.admin.resourcePolicies[kind] as object,
    list: {
      description: `List ${kind} resource policies`,
      example: ['All of them', 'list'],
      columns: Object.fromEntries(columns.map((column, at) => [heads[at], (policy) => policy[column]])),
    },
    info: { description: `Show a ${kind} resource policy`, example: ['All its limits', 'info default'] },
    add: {
      description: `Create a ${kind} resource policy`,
      example: ['With limits', `add small ${example}`],
      options,
    },
    update: {
      description: `Change limits of a ${kind} resource policy`,
      example: ['Some of them', `update small ${example}`],
      options,
    },
    delete: {
      description: `Delete a ${kind} resource policy that nothing uses`,
      example: ['By its name', 'delete small'],
    },
  });
}

export const commands: CommandBundle['commands'] = [
  ...commandsOf('keypair', '--total-resource-slots cpu=4,mem=8g --max-concurrent-sessions 3'),
  ...commandsOf('user', '--total-resource-slots cpu=8,mem=16g'),
  ...commandsOf('project', '--max-network-count 2'),
];
