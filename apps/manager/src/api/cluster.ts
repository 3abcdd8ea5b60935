import type { ClusterApi } from '@backend.ai/contract';
import type { ClusterService } from '../services/cluster/cluster-service.ts';
import { actorOf } from '../services/sessions/session-service.ts';

export function createClusterApi(cluster: ClusterService): ClusterApi {
  return { status: (ctx) => cluster.status(actorOf(ctx)) };
}
