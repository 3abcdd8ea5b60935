import type { ImageApi } from '@backend.ai/contract';
import type { ImageService } from '../services/images/image-service.ts';

export function createImageApi(images: ImageService): ImageApi {
  return { list: () => images.list() };
}
