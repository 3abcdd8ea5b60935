import { ApiCommand, writeTable } from '@backend.ai/cli-kit';
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
    if (images.length === 0) return void this.say('No agent offers an image at the moment.');
    writeTable(
      this.context.stdout,
      ['image', 'also', 'language', 'architecture', 'at least'],
      images.map((image) => [
        image.name,
        image.aliases.join(', '),
        image.language,
        image.architecture,
        slotsText(image.minSlots),
      ]),
    );
  }
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
