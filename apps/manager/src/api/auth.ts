import type { AuthApi } from '@backend.ai/contract';
import type { KeypairService } from '../services/keypairs/keypair-service.ts';
import { actorOf } from '../services/sessions/session-service.ts';

export function createAuthApi(keypairs: KeypairService): AuthApi {
  return {
    async whoami(ctx) {
      const { accessKey, email, role, domain, userId } = actorOf(ctx);
      return { accessKey, email, role, domain, projects: await keypairs.projectsOf(userId) };
    },
  };
}
