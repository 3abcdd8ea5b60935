import type { KernelSpec } from '@backend.ai/contract';
import { describe, expect, it } from 'vitest';
import { kernelResources } from '../../resources/kernel-resources.ts';
import { simulatedIsolation } from '../fake/fake-backend.ts';
import type { ScratchDraft } from './draft.ts';
import { sharedFacts } from './facts.ts';

describe('facts of a kernel', () => {
  it('keep its devices and where its image came from, and not the password for there', () => {
    const digest = `sha256:${'a'.repeat(64)}`;
    const credentials = { username: 'puller', password: 'the password' };
    const source = { digest, manifestDigest: digest, pullPolicy: 'digest' } as const;
    const spec = { image: 'r.test/x:1', imageSource: { ...source, credentials } } as KernelSpec;
    const allocation = { slots: { cpu: { 3: '1' } }, unified: {}, cpus: [3] };
    const resources = kernelResources(allocation);
    const draft = { spec, requestId: 'r', isolation: simulatedIsolation, uid: null, resources } as ScratchDraft;
    const facts = sharedFacts(draft, 'installation', 'preparing');
    expect(facts.allocation).toEqual(allocation);
    expect(facts.spec).toEqual({ image: 'r.test/x:1', imageSource: source });
    expect(spec.imageSource?.credentials).toEqual(credentials);
  });
});
