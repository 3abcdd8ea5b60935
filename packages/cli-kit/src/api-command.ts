import { type Client, createClient, nodeFetch } from '@backend.ai/client';
import { AppError } from '@backend.ai/core';
import { Option } from 'clipanion';
import { BaseCommand } from './base-command.ts';
import { type FoundCluster, findCluster, loginFile } from './known-cluster.ts';

/** A command that talks to a manager. */
export abstract class ApiCommand extends BaseCommand {
  endpoint = Option.String('--endpoint', { description: 'URL of the manager (or $BACKEND_ENDPOINT)' });
  accessKey = Option.String('--access-key', { description: 'Access key (or $BACKEND_ACCESS_KEY)' });
  owner = Option.String('--owner,--owner-access-key', { description: 'Act for the owner of this key pair' });
  secretKey = Option.String('--secret-key', { description: 'Secret key (or $BACKEND_SECRET_KEY)' });
  #fromLogin = false;

  /** @throws AppError `auth-missing` when nothing tells where the cluster is */
  protected async connect(): Promise<Client> {
    const { owner: ownerAccessKey, context } = this;
    const { fromLogin, ...cluster } = await this.findCluster();
    this.#fromLogin = fromLogin;
    return createClient({ ...cluster, ownerAccessKey, requestId: context.requestId, fetch: nodeFetch });
  }

  protected findCluster(): Promise<FoundCluster> {
    const { endpoint, accessKey, secretKey, context } = this;
    return findCluster({ endpoint, accessKey, secretKey }, context.env);
  }

  /** A login of earlier times must not hide that the cluster of this machine may well be up. */
  protected override fail(error: AppError): number {
    if (error.code !== 'server-unreachable' || !this.#fromLogin) return super.fail(error);
    const hint = `The login in ${loginFile(this.context.env)} names it, and comes before a cluster of this machine; forget it with: ./backend.ai logout`;
    return super.fail(new AppError(error.code, error.message, { hint, cause: error, requestId: error.requestId }));
  }
}
