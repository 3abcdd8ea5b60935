import { type Client, createClient, nodeFetch } from '@backend.ai/client';
import { Option } from 'clipanion';
import { BaseCommand } from './base-command.ts';
import { findCluster } from './known-cluster.ts';

/** A command that talks to a manager. */
export abstract class ApiCommand extends BaseCommand {
  endpoint = Option.String('--endpoint', { description: 'URL of the manager (or $BACKEND_ENDPOINT)' });
  accessKey = Option.String('--access-key', { description: 'Access key (or $BACKEND_ACCESS_KEY)' });
  owner = Option.String('--owner,--owner-access-key', { description: 'Act for the owner of this key pair' });
  secretKey = Option.String('--secret-key', { description: 'Secret key (or $BACKEND_SECRET_KEY)' });

  /** @throws AppError `auth-missing` when nothing tells where the cluster is */
  protected async connect(): Promise<Client> {
    const { endpoint, accessKey, secretKey, owner: ownerAccessKey, context } = this;
    const cluster = await findCluster({ endpoint, accessKey, secretKey }, context.env);
    return createClient({ ...cluster, ownerAccessKey, requestId: context.requestId, fetch: nodeFetch });
  }
}
