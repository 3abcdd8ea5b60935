import { newRequestId, parseRequestId } from '@backend.ai/core';
import type { BaseContext } from 'clipanion';

/** What commands see of the process. Tests give their own. */
export interface CliContext extends BaseContext {
  /** One invocation is one request: everything it does in the cluster carries this id. */
  readonly requestId: string;
  readonly cwd: string;
  /** Ctrl-C is given to `listener` instead of ending the process, until the returned function is called. */
  readonly onInterrupt: (listener: () => void) => () => void;
}

export function processContext(): CliContext {
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    colorDepth: 1,
    cwd: process.cwd(),
    requestId: parseRequestId(process.env.BACKEND_REQUEST_ID) ?? newRequestId(),
    onInterrupt(listener) {
      process.on('SIGINT', listener);
      return () => process.off('SIGINT', listener);
    },
  };
}
