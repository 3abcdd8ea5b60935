import { AppError, withShownConfig } from '@backend.ai/core';
import {
  EtcdAuthenticationFailedError,
  EtcdInvalidAuthTokenError,
  EtcdPermissionDeniedError,
  GRPCDeadlineExceededError,
  GRPCUnauthenticatedError,
  GRPCUnavailableError,
} from 'etcd3';
import type { EtcdServer } from './etcd-server.ts';

/** What to do about a server that does not answer. */
export const unreachableEtcdHint = 'Start etcd, or correct etcd.endpoints. For development: ./scripts/run-dev.sh';

/** What is said of it. */
type Named = Pick<EtcdServer, 'address' | 'showConfig'>;

export function etcdUnreachable({ address }: Named, detail: unknown): AppError {
  return new AppError('server-unreachable', `etcd at ${address} cannot be reached.`, {
    hint: unreachableEtcdHint,
    detail,
  });
}

/** What the client throws, as ours. */
export function etcdFailure(thrown: unknown, server: Named): AppError {
  if (thrown instanceof AppError) return thrown;
  const { address, showConfig } = server;
  const detail = thrown instanceof Error ? thrown.message : String(thrown);
  const refused = [
    EtcdAuthenticationFailedError,
    EtcdInvalidAuthTokenError,
    EtcdPermissionDeniedError,
    GRPCUnauthenticatedError,
  ];
  if (
    refused.some((kind) => thrown instanceof kind) ||
    /user name is empty|authentication is not enabled/.test(detail)
  ) {
    return new AppError('config-invalid', `etcd at ${address} refuses this user or password.`, {
      hint: withShownConfig('Correct etcd.user and etcd.password-file.', showConfig),
      detail,
    });
  }
  if (thrown instanceof GRPCUnavailableError) {
    return etcdUnreachable(server, detail);
  }
  if (thrown instanceof GRPCDeadlineExceededError) {
    return new AppError('deadline-exceeded', `etcd at ${address} did not answer in time.`, { detail });
  }
  return new AppError('internal', `etcd at ${address} refused an operation.`, {
    hint: 'Look at the log for what etcd answered, and at the state of its cluster.',
    detail,
  });
}
