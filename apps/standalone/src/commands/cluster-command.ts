import { resolve } from 'node:path';
import { BaseCommand, dataDirectory as defaultDataDirectory, quoteWord } from '@backend.ai/cli-kit';
import { Option } from 'clipanion';
import { type DataDirectory, dataDirectory } from '../data-directory.ts';

/** A command about the embedded cluster of a data directory. */
export abstract class ClusterCommand extends BaseCommand {
  dataDir = Option.String('--data-dir', {
    description: 'Folder that holds everything of the cluster (or $BACKEND_DATA_DIR)',
  });

  protected get directory(): DataDirectory {
    return dataDirectory(resolve(this.context.cwd, this.dataDir ?? defaultDataDirectory(this.context.env)));
  }

  /** Stands before commands that are shown, so that they find this cluster; nothing when they do by themselves. */
  protected get prefix(): string {
    const { root } = this.directory;
    const { cwd, env } = this.context;
    return root === resolve(cwd, defaultDataDirectory(env)) ? '' : `BACKEND_DATA_DIR=${quoteWord(root)} `;
  }
}
