import { describe } from 'vitest';
import { sessionCommands } from './support/session-commands.ts';

describe('commands of sessions in processes', () => {
  sessionCommands({ backend: 'process', python: 'python', node: 'node', listenOn: '127.0.0.1', port: 45_873 });
});
