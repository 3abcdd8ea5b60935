import { waitFor } from '@backend.ai/testing';
import type { TestCluster } from './cluster.ts';
import type { CommandResult } from './command.ts';

/** A command that goes on until something ends it. */
export interface Following {
  /** What is found in all that it has written to stdout. @throws Error when it ends before */
  until<T>(find: (said: string) => T): Promise<Exclude<T, undefined | null | false>>;
  readonly ended: Promise<CommandResult>;
  /** Ctrl-C. */
  interrupt(): Promise<CommandResult>;
}

export function follow(cluster: TestCluster, command: readonly string[]): Following {
  let said = '';
  let interrupt = (): void => {};
  const ended = cluster.cli(command, {
    onStart(child) {
      interrupt = () => void child.kill('SIGINT');
      child.stdout?.on('data', (chunk: Buffer) => {
        said += String(chunk);
      });
    },
  });
  const early = ended.then(({ stderr }) => Promise.reject(new Error(`${command.join(' ')} ended: ${stderr}${said}`)));
  early.catch(() => {});
  return {
    until: (find) => Promise.race([waitFor(() => find(said)), early]),
    ended,
    interrupt() {
      interrupt();
      return ended;
    },
  };
}
