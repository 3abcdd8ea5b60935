import { ApiCommand, writeTable } from '@backend.ai/cli-kit';
import { formatBinarySize } from '@backend.ai/core';
import { Command } from 'clipanion';
import { slotsText } from '../../session-texts.ts';

export class ImageList extends ApiCommand {
  static override paths = [['image', 'list']];
  static override usage = Command.Usage({
    category: 'Images',
    description: 'What sessions can be made of',
    examples: [['Look at them', '$0 image list']],
  });

  override async perform(): Promise<undefined> {
    const images = await (await this.connect()).images.list();
    if (this.json) return void this.printJson({ images });
    if (images.length === 0) return void this.say('No agent or registry offers an image at the moment.');
    writeTable(
      this.context.stdout,
      ['image', 'also', 'language', 'architecture', 'at least', 'registry', 'size', 'on'],
      images.map((image) => [
        image.name,
        image.aliases.join(', '),
        image.language,
        image.architecture,
        slotsText(image.minSlots),
        image.registry ?? '-',
        image.sizeBytes === null ? '-' : formatBinarySize(image.sizeBytes),
        image.installedAgents.length === 0 ? '-' : agentsText(image.installedAgents),
      ]),
    );
    const warned = images.filter(({ warnings }) => warnings.length > 0).length;
    if (warned > 0) this.note(`${warned} with labels that make no sense: ./backend.ai image info IMAGE`);
  }
}

function agentsText(agents: readonly string[]): string {
  return agents.length <= 3 ? agents.join(', ') : `${agents.length} agents`;
}

/** The name that the official command line gives it; all commands of `admin` are in one bundle. */
export class AdminImageList extends ImageList {
  static override paths = [['admin', 'image', 'list']];
  static override usage = Command.Usage({
    category: 'Images',
    description: 'What sessions can be made of',
    examples: [['Look at them', '$0 admin image list']],
  });
}
