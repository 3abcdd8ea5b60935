import { describe } from 'vitest';
import { freePort } from '../scripts/dev-servers/index.ts';
import { sessionCommands } from './support/session-commands.ts';

const port = await freePort();

describe('commands of sessions in processes', () => {
  sessionCommands({ backend: 'process', python: 'python', node: 'node', listenOn: '127.0.0.1', port });
});
