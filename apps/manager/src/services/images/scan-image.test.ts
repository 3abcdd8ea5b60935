import { expect, it } from 'vitest';
import { manifestTypes } from '../../clients/registry/registry-client.ts';
import { scanImage } from './scan-image.ts';

it('keeps of labels only what a database can hold, also where a long one is cut', async () => {
  const digest = `sha256:${'0'.repeat(64)}`;
  const labels = { 'ai.backend.long': `${'x'.repeat(8_191)}😀`, 'ai.backend.odd': 'a\0b\ud83d' };
  const client = {
    manifest: async () => ({
      ...{ mediaType: manifestTypes.ociManifest, digest },
      document: { config: { digest, size: 1 }, layers: [] },
    }),
    jsonBlob: async () => ({ architecture: 'amd64', config: { Labels: labels } }),
  };
  const { images } = await scanImage(client, 'r', 't', new Map());
  expect(images[0]?.labels).toEqual({
    'ai.backend.long': `${'x'.repeat(8_191)}\ufffd`,
    'ai.backend.odd': 'a\ufffdb\ufffd',
  });
});
