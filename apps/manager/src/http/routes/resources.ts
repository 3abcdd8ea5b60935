import type { Room } from '@backend.ai/contract';
import { addSlots, slotsFromTexts, slotsToTexts } from '@backend.ai/core';
import type { FastifyInstance } from 'fastify';
import { readParams, sendJson } from '../parameters.ts';
import { edgeOf } from '../request-edge.ts';
import type { RouteContext } from '../server.ts';

/** What one may use, and what is left of it, in the official forms. */
export function registerResourceRoutes(app: FastifyInstance, { services }: RouteContext): void {
  app.get('/scaling-groups', async (request, reply) => {
    const params = readParams(request);
    const project = params.text('group', 'group_id', 'group_name');
    params.check();
    const groups = await services.resourceGroup.list(project ? { project } : {}, edgeOf(request).callContext);
    return sendJson(reply, 200, { scaling_groups: groups.map(({ name }) => ({ name })) });
  });

  app.get('/resource/presets', async (request, reply) => {
    const params = readParams(request);
    const resourceGroup = params.text('scaling_group');
    params.check();
    const presets = await services.resourcePreset.list(
      resourceGroup ? { resourceGroup } : {},
      edgeOf(request).callContext,
    );
    return sendJson(reply, 200, {
      presets: presets.map(({ name, sharedMemory, resourceSlots }) => ({
        name,
        shared_memory: sharedMemory === null ? null : String(sharedMemory),
        resource_slots: resourceSlots,
      })),
    });
  });

  app.post('/resource/check-presets', async (request, reply) => {
    const params = readParams(request);
    const resourceGroup = params.text('scaling_group');
    const project = params.text('group') ?? 'default';
    params.check();
    const check = await services.resourcePreset.check(
      { ...(resourceGroup ? { resourceGroup } : {}), project },
      edgeOf(request).callContext,
    );
    const groups = Object.values(check.resourceGroups);
    const left = groups.reduce((sum, { remaining }) => addSlots(sum, slotsFromTexts(remaining)), {});
    return sendJson(reply, 200, {
      ...roomFields('keypair', check.keypair),
      ...roomFields('group', check.project),
      scaling_group_remaining: slotsToTexts(left),
      scaling_groups: check.resourceGroups,
      presets: check.presets.map(({ name, sharedMemory, resourceSlots, allocatable }) => ({
        name,
        resource_slots: resourceSlots,
        shared_memory: sharedMemory === null ? null : String(sharedMemory),
        allocatable,
      })),
    });
  });
}

function roomFields(prefix: string, { limits, using, remaining }: Room): Record<string, unknown> {
  return { [`${prefix}_limits`]: limits, [`${prefix}_using`]: using, [`${prefix}_remaining`]: remaining };
}
